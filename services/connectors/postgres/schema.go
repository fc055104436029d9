package postgres

// The attributes of an account.
const (
	attrLogin      = "login"       // the role's name
	attrValidUntil = "valid_until" // when its password ends; RFC 3339 in UTC
)

const configSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["url"],
  "additionalProperties": false,
  "properties": {
    "url": {"type": "string", "writeOnly": true, "description": "postgres://user@host:port/database?sslmode=verify-full"},
    "password_file": {"type": "string", "description": "file with the user's password, read at each new connection"},
    "connections": {"type": "integer", "minimum": 0, "default": 4, "description": "at most"},
    "protected": {"type": "array", "items": {"type": "string"}, "description": "roles that are never altered nor granted"},
    "predefined": {"type": "array", "items": {"type": "string", "pattern": "^pg_"}, "description": "pg_ roles that may be granted all the same"}
  }
}`
