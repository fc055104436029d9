package ldap

import (
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	attrUID = "uid"
	attrCN  = "cn"
	attrSN  = "sn"

	attrMember   = "member"
	attrLocked   = "pwdAccountLockedTime"
	attrPassword = "userPassword"
	attrPolicy   = "pwdPolicySubentry"
	attrUUID     = "entryUUID"
	attrCSN      = "entryCSN"
)

// attributes of an account: those of inetOrgPerson that hold a text.
var attributes = []connector.Attribute{
	{Name: attrUID, Type: "string", Required: true, Writable: true, Unique: true},
	{Name: attrCN, Type: "string", Required: true, Writable: true},
	{Name: attrSN, Type: "string", Required: true, Writable: true},
	{Name: "givenName", Type: "string", Writable: true},
	{Name: "displayName", Type: "string", Writable: true},
	{Name: "mail", Type: "string", Writable: true},
	{Name: "employeeNumber", Type: "string", Writable: true},
	{Name: "employeeType", Type: "string", Writable: true},
	{Name: "departmentNumber", Type: "string", Writable: true},
	{Name: "title", Type: "string", Writable: true},
	{Name: "o", Type: "string", Writable: true},
	{Name: "ou", Type: "string", Writable: true},
	{Name: "l", Type: "string", Writable: true},
	{Name: "telephoneNumber", Type: "string", Writable: true},
	{Name: "mobile", Type: "string", Writable: true},
	{Name: "preferredLanguage", Type: "string", Writable: true},
}

func writable(name string) bool {
	return slices.ContainsFunc(attributes, func(a connector.Attribute) bool { return strings.EqualFold(a.Name, name) })
}

const configSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["url", "bind_dn", "password_file", "people_base", "groups_base"],
  "additionalProperties": false,
  "properties": {
    "url": {"type": "string", "description": "ldaps://host:port, or ldap://host:port"},
    "start_tls": {"type": "boolean", "default": false, "description": "encrypt ldap://; needed to another machine"},
    "ca_file": {"type": "string", "description": "PEM file with the authority of the server's certificate; default: the system's"},
    "bind_dn": {"type": "string", "description": "the connector's own entry"},
    "password_file": {"type": "string", "description": "file with its password, read at each new connection"},
    "people_base": {"type": "string", "description": "accounts are below it, new ones right below"},
    "groups_base": {"type": "string", "description": "groups are below it"},
    "empty_group_member": {"type": "string", "description": "a DN of nobody, a member where a group would have none; default: the last member cannot be taken out"},
    "marker_attribute": {"type": "string", "default": "description", "description": "where an account says whose it is"},
    "correlation_attribute": {"type": "string", "default": "mail", "description": "what accounts of before Tenure are found by"},
    "connections": {"type": "integer", "minimum": 0, "default": 4, "description": "at most"},
    "page_size": {"type": "integer", "minimum": 0, "maximum": 10000, "default": 500, "description": "entries in one answer of a listing"}
  }
}`
