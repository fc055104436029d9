package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// Limits of one expression. An expression is written by an administrator and evaluated for every person, so that
// one that is merely careless must not stop decisions.
const (
	maxExpressionLength = 4096   // code points
	maxExpressionNodes  = 1000   // of the syntax tree
	maxExpressionDepth  = 50     // nesting
	maxCost             = 20_000 // CEL's cost units of one evaluation; about a millisecond
)

// language compiles expressions. It is used while a model is loaded and not kept by it.
type language struct {
	base *cel.Env
	envs map[string]*cel.Env // by the names of the for_each values that they see
}

func newLanguage() (*language, error) {
	registry, err := types.NewProtoRegistry()
	if err != nil {
		return nil, fmt.Errorf("types of CEL: %w", err)
	}
	base, err := cel.NewEnv(
		cel.CustomTypeProvider(personTypes{registry}),
		cel.CustomTypeAdapter(registry),
		cel.Variable("person", cel.ObjectType(personType)),
		cel.OptionalTypes(),
		ext.Strings(),
		cel.EnableMacroCallTracking(), // so that a part of a rule can be shown as it was written
		cel.ParserExpressionSizeLimit(maxExpressionLength),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ExpressionNodeLimit(maxExpressionNodes),
		cel.ASTValidators(
			cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(),
			cel.ValidateComprehensionNestingLimit(1),
		),
	)
	if err != nil {
		return nil, fmt.Errorf("environment of CEL: %w", err)
	}
	return &language{base: base, envs: map[string]*cel.Env{}}, nil
}

// env returns the environment in which person and these variables, all of them text, are known.
func (l *language) env(variables []string) (*cel.Env, error) {
	if len(variables) == 0 {
		return l.base, nil
	}
	key := strings.Join(variables, " ")
	if e, ok := l.envs[key]; ok {
		return e, nil
	}
	options := make([]cel.EnvOption, len(variables))
	for i, v := range variables {
		options[i] = cel.Variable(v, cel.StringType)
	}
	e, err := l.base.Extend(options...)
	if err != nil {
		return nil, fmt.Errorf("environment of CEL: %w", err)
	}
	l.envs[key] = e
	return e, nil
}

// mistake is what is wrong with an expression, by its own lines.
type mistake struct {
	line, column int // from 1 and 0, as CEL counts; 0: the whole of it
	what         string
}

// check parses and type-checks an expression that must have this type.
func (l *language) check(source string, variables []string, want *cel.Type) (*cel.Env, *cel.Ast, []mistake) {
	env, err := l.env(variables)
	if err != nil {
		return nil, nil, []mistake{{what: err.Error()}}
	}
	if strings.TrimSpace(source) == "" {
		return nil, nil, []mistake{{what: "is empty"}}
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		var found []mistake
		for _, e := range issues.Errors() {
			found = append(found, mistake{e.Location.Line(), e.Location.Column(), e.Message})
		}
		return nil, nil, found
	}
	if !ast.OutputType().IsExactType(want) {
		return nil, nil, []mistake{{what: fmt.Sprintf("must give %s, not %s", typeName(want), typeName(ast.OutputType()))}}
	}
	if found := misuses(ast); len(found) > 0 {
		return nil, nil, found
	}
	return env, ast, nil
}

// compile checks an expression and makes it ready to run.
func (l *language) compile(source string, variables []string, want *cel.Type) (cel.Program, []mistake) {
	env, ast, mistakes := l.check(source, variables, want)
	if mistakes != nil {
		return nil, mistakes
	}
	program, err := plan(env, ast)
	if err != nil {
		return nil, []mistake{{what: err.Error()}}
	}
	return program, nil
}

func typeName(t *cel.Type) string {
	switch {
	case t.IsExactType(cel.BoolType):
		return "true or false"
	case t.IsExactType(cel.StringType):
		return "text"
	case t.IsExactType(cel.ListType(cel.StringType)):
		return "a list of texts"
	}
	return t.String()
}

// misuses finds what type-checks and yet cannot mean what its author thinks.
func misuses(ast *cel.Ast) []mistake {
	var found []mistake
	info := ast.NativeRep().SourceInfo()
	say := func(e celast.Expr, what string) {
		at := info.GetStartLocation(e.ID())
		found = append(found, mistake{at.Line(), at.Column(), what})
	}
	selected := map[int64]bool{} // ids of `person` in person.field
	isPerson := func(e celast.Expr) bool {
		return e.Kind() == celast.IdentKind && e.AsIdent() == "person"
	}
	visit := func(e celast.Expr) {
		if e.Kind() == celast.SelectKind && isPerson(e.AsSelect().Operand()) {
			selected[e.AsSelect().Operand().ID()] = true
			if e.AsSelect().IsTestOnly() {
				say(e, `every field of person is always present: compare it with ""`)
			}
		}
		// person.?field reaches the field by a call.
		if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.OptSelect && isPerson(e.AsCall().Args()[0]) {
			selected[e.AsCall().Args()[0].ID()] = true
		}
		if e.Kind() == celast.StructKind {
			say(e, "objects cannot be made here")
		}
		if e.Kind() == celast.ComprehensionKind && e.AsComprehension().IterVar() == "person" {
			say(e, "person means the person: give this variable another name")
		}
		if isPerson(e) && !selected[e.ID()] {
			say(e, "person can only be used by its fields, like person.department")
		}
	}
	celast.PreOrderVisit(ast.NativeRep().Expr(), celast.NewExprVisitor(visit))
	return found
}

// plan makes a checked expression ready to run, from any number of goroutines.
func plan(env *cel.Env, ast *cel.Ast) (cel.Program, error) {
	// Counting the cost while running takes longer than most rules do, so only what has no bound by its form is counted.
	var options []cel.ProgramOption
	estimate, err := env.EstimateCost(ast, nil)
	if err != nil {
		return nil, fmt.Errorf("estimate its cost: %w", err)
	}
	switch {
	case estimate.Min > maxCost:
		return nil, fmt.Errorf("costs too much: at least %d units, and %d are allowed", estimate.Min, maxCost)
	case estimate.Max > maxCost:
		options = append(options, cel.CostLimit(maxCost))
	}
	return env.Program(ast, options...)
}

// scope is what an expression sees.
type scope struct {
	person *Person
	names  []string // of the for_each values
	values []string
}

func (s *scope) ResolveName(name string) (any, bool) {
	if name == "person" {
		return s.person, true
	}
	if i := slices.Index(s.names, name); i >= 0 && i < len(s.values) {
		return s.values[i], true
	}
	return nil, false
}

func (s *scope) Parent() cel.Activation { return nil }

// Failure is why an expression could not be evaluated for a person. It names the part of the expression and the kind
// of error, and holds no value of the person: what CEL says can (`no such key: d005`), so its words are not kept.
type Failure struct {
	Code string // no_such_key, no_such_overload, conversion, too_expensive, too_many_values, unsafe_value, failed
	In   string // the part of the expression that failed, as in the model
}

func (f *Failure) Error() string {
	what := map[string]string{
		"no_such_key":      "no such key",
		"no_such_overload": "the types do not fit",
		"conversion":       "a value cannot be converted",
		"too_expensive":    "the evaluation takes too long",
		"too_many_values":  fmt.Sprintf("more than %d values", maxValues),
		"unsafe_value":     "a value with a character that could make the entitlement mean another one",
		"failed":           "the evaluation failed",
	}[f.Code]
	return what + " in " + f.In
}

// failure classifies what CEL said about a part of an expression.
func failure(err error, in string) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	text := err.Error()
	for _, c := range []struct{ words, code string }{
		{"no such key", "no_such_key"},
		{"index out of bounds", "no_such_key"},
		{"no such overload", "no_such_overload"},
		{"type conversion error", "conversion"},
		{"cost limit exceeded", "too_expensive"},
	} {
		if strings.Contains(text, c.words) {
			return &Failure{Code: c.code, In: in}
		}
	}
	return &Failure{Code: "failed", In: in}
}

// isTrue runs a condition.
func isTrue(p cel.Program, s *scope, in string) (bool, *Failure) {
	out, _, err := p.Eval(s)
	if err != nil {
		return false, failure(err, in)
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, &Failure{Code: "no_such_overload", In: in}
	}
	return bool(b), nil
}

// text runs an expression that gives text.
func text(p cel.Program, s *scope, in string) (string, *Failure) {
	out, _, err := p.Eval(s)
	if err != nil {
		return "", failure(err, in)
	}
	t, ok := out.(types.String)
	if !ok {
		return "", &Failure{Code: "no_such_overload", In: in}
	}
	return string(t), nil
}

// list runs an expression that gives a list of texts and returns each text once, in order.
func list(p cel.Program, s *scope, in string) ([]string, *Failure) {
	out, _, err := p.Eval(s)
	if err != nil {
		return nil, failure(err, in)
	}
	l, ok := out.(traits.Lister)
	if !ok {
		return nil, &Failure{Code: "no_such_overload", In: in}
	}
	var found []string
	for it := l.Iterator(); it.HasNext() == types.True; {
		t, ok := it.Next().(types.String)
		if !ok {
			return nil, &Failure{Code: "no_such_overload", In: in}
		}
		if !slices.Contains(found, string(t)) {
			found = append(found, string(t))
		}
		if len(found) > maxValues {
			return nil, &Failure{Code: "too_many_values", In: in}
		}
	}
	return found, nil
}
