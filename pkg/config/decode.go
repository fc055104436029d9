package config

import (
	"encoding"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// unmarshaler is a type that reads its own part of the file. It is called for keys that are present and not null.
type unmarshaler interface {
	UnmarshalConfig(s Section) error
}

// Path is the path of a file or folder; a relative one begins at the configuration file's folder.
type Path string

// UnmarshalConfig implements the hook of this package.
func (p *Path) UnmarshalConfig(s Section) error {
	var text string
	if err := s.Decode(&text); err != nil {
		return err
	}
	*p = Path(s.Path(text))
	return nil
}

// SecretFile is the path of a file that holds a secret, like a key password_file; a relative one begins at the
// configuration file's folder. The file is read at once (ReadSecret), so that a missing secret is an error of the key.
type SecretFile struct {
	Secret

	Path string
}

// UnmarshalConfig implements the hook of this package.
func (f *SecretFile) UnmarshalConfig(s Section) error {
	var text string
	if err := s.Decode(&text); err != nil {
		return err
	}
	if text == "" {
		return nil
	}
	f.Path = filepath.Clean(s.Path(text))
	secret, err := ReadSecret(f.Path)
	if err != nil {
		return s.Errorf("", "%v", err)
	}
	f.Secret = secret
	return nil
}

var (
	sectionType  = reflect.TypeFor[Section]()
	durationType = reflect.TypeFor[time.Duration]()
)

func decode(s Section, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		panic(fmt.Sprintf("config: decode into %T, which is no pointer", into))
	}
	return s.value(target.Elem())
}

// at is the section below s.
func (s Section) at(node ast.Node, path string, line int) Section {
	return Section{src: s.src, node: node, path: path, line: line}
}

// value decodes the section into v.
func (s Section) value(v reflect.Value) error {
	if v.Type() == sectionType {
		v.Set(reflect.ValueOf(s))
		return nil
	}
	if s.Empty() {
		return nil
	}
	switch hook := v.Addr().Interface().(type) {
	case unmarshaler:
		return hook.UnmarshalConfig(s)
	case encoding.TextUnmarshaler:
		text, err := s.text()
		if err != nil {
			return err
		}
		if err := hook.UnmarshalText([]byte(text)); err != nil {
			return s.Errorf("", "%v", err)
		}
		return nil
	}
	if v.Type() == durationType {
		return s.duration(v)
	}
	switch v.Kind() {
	case reflect.Struct:
		return s.fields(v)
	case reflect.Map:
		return s.entries(v)
	case reflect.Slice:
		return s.items(v)
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		if err := s.value(fresh.Elem()); err != nil {
			return err
		}
		v.Set(fresh)
		return nil
	case reflect.String:
		text, err := s.text()
		v.SetString(text)
		return err
	case reflect.Interface:
		v.Set(reflect.ValueOf(plain(s.node)))
		return nil
	default:
		return s.number(v)
	}
}

func (s Section) fields(v reflect.Value) error {
	mapping, ok := s.node.(*ast.MappingNode)
	if !ok {
		return s.mistyped("keys with values")
	}
	byName := make(map[string]reflect.Value, v.NumField())
	var names []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		byName[name] = v.Field(i)
		names = append(names, name)
	}
	for _, entry := range mapping.Values {
		name, _ := keyName(entry) // checked when parsed
		below := s.at(entry.Value, joinKey(s.path, name), lineOf(entry.Key, s.line))
		field, known := byName[name]
		if !known {
			slices.Sort(names)
			return below.Errorf("", "unknown key; there are %s", strings.Join(names, ", "))
		}
		if err := below.value(field); err != nil {
			return err
		}
	}
	return nil
}

func (s Section) entries(v reflect.Value) error {
	mapping, ok := s.node.(*ast.MappingNode)
	if !ok {
		return s.mistyped("keys with values")
	}
	made := reflect.MakeMapWithSize(v.Type(), len(mapping.Values))
	for _, entry := range mapping.Values {
		name, _ := keyName(entry) // checked when parsed
		item := reflect.New(v.Type().Elem()).Elem()
		if err := s.at(entry.Value, joinKey(s.path, name), lineOf(entry.Key, s.line)).value(item); err != nil {
			return err
		}
		made.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), item)
	}
	v.Set(made)
	return nil
}

func (s Section) items(v reflect.Value) error {
	list, ok := s.node.(*ast.SequenceNode)
	if !ok {
		return s.mistyped("a list")
	}
	made := reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values))
	for i, item := range list.Values {
		if err := s.at(item, joinIndex(s.path, i), lineOf(item, s.line)).value(made.Index(i)); err != nil {
			return err
		}
	}
	v.Set(made)
	return nil
}

func (s Section) duration(v reflect.Value) error {
	if n, ok := s.node.(*ast.IntegerNode); ok && n.GetToken().Value == "0" {
		v.SetInt(0)
		return nil
	}
	text, ok := s.node.(*ast.StringNode)
	if !ok {
		return s.mistyped(`a duration like "90s", "15m" or "720h"`)
	}
	d, err := time.ParseDuration(text.Value)
	if err != nil {
		return s.Errorf("", `%q is no duration like "90s", "15m" or "720h"`, text.Value)
	}
	v.SetInt(int64(d))
	return nil
}

// number decodes whole and broken numbers and booleans.
func (s Section) number(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Bool:
		n, ok := s.node.(*ast.BoolNode)
		if !ok {
			return s.mistyped("true or false")
		}
		v.SetBool(n.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := s.node.(*ast.IntegerNode)
		if !ok {
			return s.mistyped("a whole number")
		}
		whole, fits := n.Value.(int64)
		if unsigned, ok := n.Value.(uint64); ok {
			whole, fits = int64(unsigned), unsigned <= math.MaxInt64 //nolint:gosec // G115: used only if it fits
		}
		if !fits || v.OverflowInt(whole) {
			return s.Errorf("", "%s is out of range", n.GetToken().Value)
		}
		v.SetInt(whole)
	case reflect.Float32, reflect.Float64:
		switch n := s.node.(type) {
		case *ast.FloatNode:
			v.SetFloat(n.Value)
		case *ast.IntegerNode:
			v.SetFloat(reflect.ValueOf(n.Value).Convert(v.Type()).Float())
		default:
			return s.mistyped("a number")
		}
	default:
		panic(fmt.Sprintf("config: %s: no way to read a %s", s.path, v.Type()))
	}
	return nil
}

// text is the section's value as text.
func (s Section) text() (string, error) {
	switch n := s.node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.MappingNode, *ast.SequenceNode:
		return "", s.mistyped("text")
	}
	return "", s.Errorf("", "want text, not %s: quote it", noun(s.node))
}

func (s Section) mistyped(want string) error {
	return s.Errorf("", "want %s, not %s", want, noun(s.node))
}

// noun names what a node is, for somebody who wrote it. It does not show the value, which may be a secret in the wrong
// place.
func noun(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "text"
}

// plain is a node as values of map[string]any, []any, string, bool, int64, uint64, float64 and nil.
func plain(n ast.Node) any {
	switch n := n.(type) {
	case *ast.MappingNode:
		made := make(map[string]any, len(n.Values))
		for _, entry := range n.Values {
			name, _ := keyName(entry) // checked when parsed
			made[name] = plain(entry.Value)
		}
		return made
	case *ast.SequenceNode:
		made := make([]any, len(n.Values))
		for i, item := range n.Values {
			made[i] = plain(item)
		}
		return made
	case *ast.LiteralNode:
		return n.Value.Value
	case ast.ScalarNode:
		return n.GetValue()
	}
	return nil
}
