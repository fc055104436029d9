// Package config reads strict YAML. What it does not understand it refuses, in one line that names file, line and
// key: unknown and duplicate keys, wrong types, impossible values, secrets that are missing or open to everybody.
package config
