// Package config reads strict YAML. What it does not understand it refuses, in one line that names file, line and
// key: unknown and duplicate keys, wrong types, impossible values, secrets that are missing or open to everybody.
//
//	tenure.yaml:12:sources[0].kind: "csw" is none of csv, manual, standard-webhooks
//
// Keys are the yaml tags of a struct's exported fields; a field without one has no key. A key that is absent or null
// leaves its field as it is, so defaults are what the struct holds beforehand. Text must be text: a number or a
// boolean where text is wanted must be quoted. Anchors, aliases, merge keys and tags are refused.
//
// Besides structs, slices, maps with text keys, pointers, text, numbers, booleans and any, a field may be a
// time.Duration ("720h"), an encoding.TextUnmarshaler, a Path, a SecretFile, a Section, or a type with a method
// UnmarshalConfig(Section) error, which reads its part by itself.
package config
