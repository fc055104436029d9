package scim

import "github.com/tenurehq/tenure/pkg/connector"

const attrUserName = "userName"

// usual are the attributes that every application is taken to know.
var usual = []connector.Attribute{
	{Name: attrUserName, Type: "string", Required: true, Writable: true, Unique: true},
	{Name: "name.givenName", Type: "string", Writable: true, CaseExact: true},
	{Name: "name.familyName", Type: "string", Writable: true, CaseExact: true},
	{Name: "name.formatted", Type: "string", Writable: true, CaseExact: true},
	{Name: "displayName", Type: "string", Writable: true, CaseExact: true},
	{Name: "nickName", Type: "string", Writable: true, CaseExact: true},
	{Name: "title", Type: "string", Writable: true, CaseExact: true},
	{Name: "userType", Type: "string", Writable: true, CaseExact: true},
	{Name: "preferredLanguage", Type: "string", Writable: true, CaseExact: true},
	{Name: "locale", Type: "string", Writable: true, CaseExact: true},
	{Name: "timezone", Type: "string", Writable: true, CaseExact: true},
	{Name: `emails[type eq "work"].value`, Type: "string", Writable: true},
	{Name: `emails[primary eq true].value`, Type: "string", Writable: true},
	{Name: `phoneNumbers[type eq "work"].value`, Type: "string", Writable: true, CaseExact: true},
	{Name: `phoneNumbers[type eq "mobile"].value`, Type: "string", Writable: true, CaseExact: true},
	{Name: enterpriseSchema + ":employeeNumber", Type: "string", Writable: true, CaseExact: true},
	{Name: enterpriseSchema + ":costCenter", Type: "string", Writable: true, CaseExact: true},
	{Name: enterpriseSchema + ":organization", Type: "string", Writable: true, CaseExact: true},
	{Name: enterpriseSchema + ":division", Type: "string", Writable: true, CaseExact: true},
	{Name: enterpriseSchema + ":department", Type: "string", Writable: true, CaseExact: true},
}

const configSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["url", "token_file"],
  "additionalProperties": false,
  "properties": {
    "url": {"type": "string", "description": "the base URL: what stands before /Users"},
    "token_file": {"type": "string", "description": "file with the bearer token, read at each request"},
    "token_expires": {"type": "string", "format": "date", "description": "the day on which the token ends, where nobody else says"},
    "profile": {"enum": ["generic", "entra-strict", "github", "slack", "aws", "atlassian"], "default": "generic"},
    "attributes": {"type": "array", "items": {"type": "string"}, "description": "paths that may be set besides the usual ones"},
    "correlated_by": {"type": "string", "default": "userName", "description": "what an existing account is found by"},
    "protected": {"type": "array", "items": {"type": "string"}, "description": "userNames that are never touched"},
    "patch": {"enum": ["path", "pathless", "none"]},
    "active": {"enum": ["boolean", "string"]},
    "remove_member": {"enum": ["filter", "value"]},
    "memberships": {"enum": ["members", "query", "groups"]},
    "paging": {"enum": ["index", "cursor"]},
    "page_size": {"type": "integer", "minimum": 0},
    "content_type": {"enum": ["application/scim+json", "application/json"]},
    "create_as": {"enum": ["disabled", "enabled"]},
    "disabled_is": {"enum": ["shown", "gone"]},
    "delete_is": {"enum": ["delete", "disabled"]},
    "rates": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "user_reads": {"$ref": "#/$defs/rate"},
        "user_writes": {"$ref": "#/$defs/rate"},
        "group_reads": {"$ref": "#/$defs/rate"},
        "group_writes": {"$ref": "#/$defs/rate"}
      }
    }
  },
  "$defs": {
    "rate": {
      "type": "object",
      "required": ["per_minute"],
      "additionalProperties": false,
      "properties": {
        "per_minute": {"type": "integer", "minimum": 1},
        "burst": {"type": "integer", "minimum": 1, "default": 1}
      }
    }
  }
}`
