package config

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// maxDepth bounds nesting, which the parser follows by recursion.
const maxDepth = 64

// tooDeep reports the line where brackets, or dashes on one line, nest deeper than maxDepth. It is a cheap test of the
// raw text before the parser, which takes quadratic time there; brackets within text count too, but close again.
func tooDeep(content []byte) (line int, deep bool) {
	depth := 0
	for text := range bytes.Lines(content) {
		line++
		dashes := 0
		for rest, more := bytes.TrimLeft(text, " "), true; more; dashes++ {
			rest, more = bytes.CutPrefix(rest, []byte("- "))
		}
		for _, c := range text {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth || dashes > maxDepth {
				return line, true
			}
		}
	}
	return 0, false
}

// check refuses, below n, what no type of value may contain.
func (s Section) check(n ast.Node) error {
	return s.checkNode(n, s.path, s.line, 0)
}

func (s Section) checkNode(n ast.Node, path string, line, depth int) error {
	if depth > maxDepth {
		return complaint(s.src.name, line, path, fmt.Sprintf("nested more than %d deep", maxDepth))
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		first := make(map[string]int, len(n.Values))
		for _, entry := range n.Values {
			at := lineOf(entry.Key, line)
			name, ok := keyName(entry)
			if !ok {
				return complaint(s.src.name, at, path, "a key must be plain text")
			}
			below := joinKey(path, name)
			if before, twice := first[name]; twice {
				return complaint(s.src.name, at, below, fmt.Sprintf("the key stands in line %d already", before))
			}
			first[name] = at
			if err := s.checkNode(entry.Value, below, at, depth+1); err != nil {
				return err
			}
		}
	case *ast.SequenceNode:
		for i, item := range n.Values {
			if err := s.checkNode(item, joinIndex(path, i), lineOf(item, line), depth+1); err != nil {
				return err
			}
		}
	case *ast.AnchorNode, *ast.AliasNode:
		return complaint(s.src.name, line, path, "anchors and aliases are not understood: write it out, or quote text that begins with & or *")
	case *ast.TagNode:
		return complaint(s.src.name, line, path, "tags are not understood: quote text that begins with !")
	case nil, *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode, *ast.LiteralNode,
		*ast.InfinityNode, *ast.NanNode:
	case *ast.DirectiveNode:
		return complaint(s.src.name, line, path, "directives are not understood")
	default:
		return complaint(s.src.name, line, path, "not understood")
	}
	return nil
}
