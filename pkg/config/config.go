package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tenurehq/tenure/pkg/fault"
)

// MaxSize bounds a file: configuration is written by people.
const MaxSize = 1 << 20

// Load reads the YAML file at path into the struct that into points to. Its errors are of kind fault.Invalid and name
// file, line and key.
func Load(path string, into any) error {
	whole, err := Read(path)
	if err != nil {
		return err
	}
	return whole.Decode(into)
}

// KeyError is an error about one key of the YAML file at path. It reads the file again to find the key's line; where
// that fails, the line is left out.
func KeyError(path, key, format string, args ...any) error {
	whole, err := Read(path)
	if err != nil {
		return complaint(path, 0, key, fmt.Sprintf(format, args...))
	}
	return whole.Errorf(key, format, args...)
}

// Read parses the YAML file at path. Beyond YAML's own rules it refuses duplicate keys, anchors and tags, several
// documents, and more than MaxSize.
func Read(path string) (Section, error) {
	file, err := os.Open(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return Section{}, fault.New(fault.Invalid, "read configuration: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err != nil {
		return Section{}, fault.New(fault.Invalid, "read configuration: %w", err)
	}
	return Parse(path, content)
}

// Parse is Read for content that is at hand. name stands for the file in errors, and its folder is where relative
// paths begin.
func Parse(name string, content []byte) (Section, error) {
	if len(content) > MaxSize {
		return Section{}, complaint(name, 0, "", fmt.Sprintf("more than %d KiB", MaxSize>>10))
	}
	if !utf8.Valid(content) {
		return Section{}, complaint(name, 0, "", "not UTF-8 text")
	}
	if line, ok := tooDeep(content); ok {
		return Section{}, complaint(name, line, "", fmt.Sprintf("nested more than %d deep", maxDepth))
	}
	parsed, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			return Section{}, complaint(name, at.GetToken().Position.Line, "", at.GetMessage())
		}
		return Section{}, complaint(name, 0, "", firstLine(err.Error()))
	}
	whole := Section{src: &source{name: name, dir: filepath.Dir(name)}, line: 1}
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		if whole.node != nil {
			return Section{}, complaint(name, lineOf(doc.Body, 0), "", "a second document")
		}
		if err := whole.check(doc.Body); err != nil {
			return Section{}, err
		}
		whole.node = doc.Body
	}
	return whole, nil
}

// source is the file that sections are parts of.
type source struct{ name, dir string }

// Section is a part of a configuration file that knows where it stands: the whole file, or the value of one key. A
// field of this type keeps its value for a later Decode. The zero Section, and that of an absent key, decodes to
// nothing.
type Section struct {
	src  *source
	node ast.Node // nil: nothing there
	path string   // of this part; empty: the whole file
	line int
}

// Decode reads the section into what into points to. The first thing that is wrong is returned, as Load says.
func (s Section) Decode(into any) error {
	return decode(s, into)
}

// Empty reports whether nothing is there.
func (s Section) Empty() bool { return s.node == nil || s.node.Type() == ast.NullType }

// File is the name of the file that the section is part of.
func (s Section) File() string {
	if s.src == nil {
		return ""
	}
	return s.src.name
}

// Path returns a path of the file as a relative path means it: from the file's folder.
func (s Section) Path(path string) string {
	if path == "" || filepath.IsAbs(path) || s.src == nil {
		return path
	}
	return filepath.Join(s.src.dir, path)
}

// Errorf is an error about a key of the section, like `limits.per_minute` or `[2].name`; an empty key means the section
// itself. A key that is absent is placed where it would belong.
func (s Section) Errorf(key, format string, args ...any) error {
	at, line := s.node, s.line
	for _, step := range steps(key) {
		if at, line = child(at, line, step); at == nil {
			break
		}
	}
	return complaint(s.File(), line, join(s.path, key), fmt.Sprintf(format, args...))
}

func complaint(file string, line int, key, what string) error {
	where := file
	if line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	if key != "" {
		where += ":" + key
	}
	return fault.New(fault.Invalid, "%s: %s", where, what)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// Key paths: names joined by dots, indices and names with other characters in brackets.

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func join(path, key string) string {
	if path == "" || key == "" || strings.HasPrefix(key, "[") {
		return path + key
	}
	return path + "." + key
}

func joinKey(path, name string) string {
	if plainKey.MatchString(name) {
		return join(path, name)
	}
	return join(path, "["+strconv.Quote(name)+"]")
}

func joinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// step is one hop of a key path: a name, or an index (name empty).
type step struct {
	name  string
	index int
}

// steps takes a key path apart; what cannot be understood ends it, so that an error still names the nearest place.
func steps(path string) []step {
	var all []step
	for path != "" {
		inner, ok := strings.CutPrefix(path, "[")
		if !ok {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			all = append(all, step{name: path[:end]})
			path = strings.TrimPrefix(path[end:], ".")
			continue
		}
		if quoted, err := strconv.QuotedPrefix(inner); err == nil {
			name, _ := strconv.Unquote(quoted) // QuotedPrefix has checked it
			all = append(all, step{name: name})
			path = strings.TrimPrefix(strings.TrimPrefix(inner[len(quoted):], "]"), ".")
			continue
		}
		digits, rest, _ := strings.Cut(inner, "]")
		i, err := strconv.Atoi(digits)
		if err != nil {
			return all
		}
		all = append(all, step{index: i})
		path = strings.TrimPrefix(rest, ".")
	}
	return all
}

// child returns the node one step below at, and its line: a key's own line, an item's first line. Nil: it is not there,
// and the line is the nearest known.
func child(at ast.Node, line int, to step) (ast.Node, int) {
	switch n := at.(type) {
	case *ast.MappingNode:
		for _, entry := range n.Values {
			if name, ok := keyName(entry); ok && name == to.name {
				return entry.Value, lineOf(entry.Key, line)
			}
		}
	case *ast.SequenceNode:
		if to.name == "" && to.index >= 0 && to.index < len(n.Values) {
			return n.Values[to.index], lineOf(n.Values[to.index], line)
		}
	}
	return nil, line
}

// lineOf is the line on which a node begins.
func lineOf(n ast.Node, otherwise int) int {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 { // its own token is the first colon, or nothing
			return lineOf(n.Values[0].Key, otherwise)
		}
	case nil:
		return otherwise
	}
	if token := n.GetToken(); token != nil && token.Position != nil {
		return token.Position.Line
	}
	return otherwise
}

// keyName is the text of a mapping's key.
func keyName(entry *ast.MappingValueNode) (string, bool) {
	switch k := entry.Key.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return entry.Key.GetToken().Value, true // 404: is a key like any other
	}
	return "", false
}
