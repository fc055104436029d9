package demo

const attrLogin, attrEmail = "login", "email"

// attributeNames are what an account has; login is the only one that it must have.
var attributeNames = []string{attrLogin, attrEmail, "display_name", "given_name", "family_name", "department", "title", "manager", "location"}

const configSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "temper": {"enum": ["plain", "slow", "throttling"], "default": "plain"},
    "calls_per_second": {"type": "number", "minimum": 0, "default": 50, "description": "what the throttling temper allows"},
    "entitlements": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": true, "description": "all that can be granted"},
    "file": {"type": "string", "description": "the journal; default: a file named after the application in the data directory"},
    "listen": {"type": "string", "description": "loopback host:port of the application's own HTTP listing; empty: none"}
  }
}`
