package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Compile reads a mapping file: YAML, a CEL expression for each field (see docs/people.md). Zone is for dates of people
// without one; nil: UTC. An error is one line that points at file:line:key; file is only used for that.
func Compile(file string, text []byte, zone *time.Location) (*Mapping, error) {
	entries, err := entries(file, text)
	if err != nil {
		return nil, err
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	m := Generic(zone)
	known := make(map[string]bool, len(entries))
	for _, e := range entries {
		program, err := e.compile(env)
		if err != nil {
			return nil, e.wrong(file, err)
		}
		m.fields = append(m.fields, expression{field: e.key, program: program})
		known[e.key] = true
	}
	for _, required := range []string{"external_id", "status"} {
		if !known[required] {
			return nil, fmt.Errorf("%s:1:%s: missing", file, required)
		}
	}
	return m, nil
}

// entry of a mapping file.
type entry struct {
	key  string
	line int
	node ast.Node
}

func (e *entry) wrong(file string, err error) error {
	return fmt.Errorf("%s:%d:%s: %w", file, e.line, e.key, err)
}

// entries are a file's keys with their places, in their order.
func entries(file string, text []byte) ([]entry, error) {
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		var bad yaml.Error
		if errors.As(err, &bad) && bad.GetToken() != nil {
			return nil, fmt.Errorf("%s:%d:: %s", file, bad.GetToken().Position.Line, bad.GetMessage())
		}
		return nil, fmt.Errorf("%s:1:: not YAML", file)
	}
	var values []*ast.MappingValueNode
	if len(parsed.Docs) == 1 {
		switch body := parsed.Docs[0].Body.(type) {
		case *ast.MappingNode:
			values = body.Values
		case *ast.MappingValueNode:
			values = []*ast.MappingValueNode{body}
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%s:1:: a mapping has one document of fields with their expressions", file)
	}
	out := make([]entry, len(values))
	for i, v := range values {
		out[i] = entry{key: v.Key.String(), line: v.Key.GetToken().Position.Line, node: v.Value}
		if key, ok := v.Key.(*ast.StringNode); ok {
			out[i].key = key.Value // without quotes
		}
	}
	return out, nil
}

// compile checks the entry's name and its expression.
func (e *entry) compile(env *cel.Env) (cel.Program, error) {
	var probe timeline.Record
	if !probe.Set(e.key, "x") {
		return nil, errors.New("no such field")
	}
	var source string
	switch node := e.node.(type) {
	case *ast.StringNode:
		source = node.Value
	case *ast.LiteralNode:
		source = node.Value.Value
	default:
		return nil, errors.New("must be an expression; quote it")
	}
	checked, issues := env.Compile(source)
	if issues != nil && issues.Err() != nil {
		first := issues.Errors()[0]
		message := strings.Join(strings.Fields(first.Message), " ")
		return nil, fmt.Errorf("%s (at character %d of the expression's line %d)", message, first.Location.Column()+1, first.Location.Line())
	}
	if out := checked.OutputType(); !isText(out) {
		return nil, fmt.Errorf("gives %s, must give string", cel.FormatCELType(out))
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit))
	if err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	return program, nil
}

// isText tells whether an expression of this type can give a text; what is dynamic shows when it is evaluated.
func isText(t *cel.Type) bool {
	return slices.ContainsFunc([]*cel.Type{
		cel.StringType, cel.DynType, cel.NullType, cel.NullableType(cel.StringType),
		cel.OptionalType(cel.StringType), cel.OptionalType(cel.DynType),
	}, t.IsExactType)
}
