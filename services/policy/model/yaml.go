package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// node is a place in a file: what stands there, and the key under which the author knows it.
type node struct {
	file string
	line int
	key  string
	ast  ast.Node
}

// reader walks YAML strictly and collects what is wrong instead of stopping at the first problem. Anchors, aliases,
// tags and merge keys are refused: a reviewer should see what a model says without expanding it in the head.
type reader struct{ problems Problems }

func (r *reader) problem(n node, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: n.file, Line: n.line, Key: n.key, What: fmt.Sprintf(format, args...)})
}

// document parses a file. Nil without a problem: the file holds nothing.
func (r *reader) document(f File) (doc *node) {
	defer func() {
		// The parser has panicked on malformed input before; a model that an operator sends must not end the process.
		if cause := recover(); cause != nil {
			r.problem(node{file: f.Name}, "is not YAML")
			doc = nil
		}
	}()
	parsed, err := parser.ParseBytes(f.Content, 0)
	if err != nil {
		at := node{file: f.Name}
		what := err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			what = syntax.Message
			if syntax.Token != nil && syntax.Token.Position != nil {
				at.line = syntax.Token.Position.Line
			}
		}
		r.problem(at, "%s", what)
		return nil
	}
	for _, d := range parsed.Docs {
		if d.Body == nil {
			continue
		}
		if doc != nil {
			r.problem(node{file: f.Name, line: lineOf(d.Body)}, "a second document: put it in a file of its own")
			continue
		}
		doc = &node{file: f.Name, line: lineOf(d.Body), ast: d.Body}
	}
	return doc
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// child is the value under a key of n.
func (n node) child(key string, value ast.Node) node {
	path := key
	if n.key != "" {
		path = n.key + "." + key
	}
	return node{file: n.file, line: lineOf(value), key: path, ast: value}
}

type entry struct {
	key   string
	value node
}

// entries returns the keys and values of a mapping in the order of the file.
func (r *reader) entries(n node) []entry {
	var values []*ast.MappingValueNode
	switch m := n.ast.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		r.problem(n, "must be a mapping of keys to values, not %s", describe(n.ast))
		return nil
	}
	found := make([]entry, 0, len(values))
	for _, v := range values {
		key, ok := scalar(v.Key)
		if !ok || v.Key.IsMergeKey() {
			r.problem(node{file: n.file, line: lineOf(v), key: n.key}, "a key must be plain text")
			continue
		}
		child := n.child(key, v.Value)
		// A block value begins on the line after its key, where nobody would look for what is wrong with the key.
		child.line = lineOf(v.Key)
		if slices.ContainsFunc(found, func(e entry) bool { return e.key == key }) {
			r.problem(child, "stands here twice")
			continue
		}
		found = append(found, entry{key, child})
	}
	return found
}

// mapping returns the values of a mapping that may have only these keys.
func (r *reader) mapping(n node, allowed ...string) map[string]node {
	found := map[string]node{}
	for _, e := range r.entries(n) {
		if !slices.Contains(allowed, e.key) {
			r.problem(e.value, "unknown key; known are %s", strings.Join(allowed, ", "))
			continue
		}
		found[e.key] = e.value
	}
	return found
}

// list returns the items of a sequence.
func (r *reader) list(n node) []node {
	seq, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		r.problem(n, "must be a list, not %s", describe(n.ast))
		return nil
	}
	items := make([]node, len(seq.Values))
	for i, v := range seq.Values {
		items[i] = node{file: n.file, line: lineOf(v), key: fmt.Sprintf("%s[%d]", n.key, i), ast: v}
		if m, ok := v.(*ast.MappingNode); ok && len(m.Values) > 0 {
			items[i].line = lineOf(m.Values[0].Key)
		}
	}
	return items
}

// text returns a scalar that YAML itself takes for text.
func (r *reader) text(n node) (string, bool) {
	if s, ok := scalar(n.ast); ok {
		return s, true
	}
	switch n.ast.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		r.problem(n, "must be text, not %s: put it in quotes", describe(n.ast))
	default:
		r.problem(n, "must be text, not %s", describe(n.ast))
	}
	return "", false
}

// texts returns a list of texts, each with its place.
func (r *reader) texts(n node) []entry {
	var found []entry
	for _, item := range r.list(n) {
		if s, ok := r.text(item); ok {
			found = append(found, entry{s, item})
		}
	}
	return found
}

func (r *reader) flag(n node) bool {
	b, ok := n.ast.(*ast.BoolNode)
	if !ok {
		r.problem(n, "must be true or false, not %s", describe(n.ast))
		return false
	}
	return b.Value
}

func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias (not allowed here)"
	case *ast.TagNode:
		return "a tag (not allowed here)"
	}
	return "this"
}
