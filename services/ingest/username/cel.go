package username

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// letter is the function that x[0] becomes. CEL has no index into strings, and its evaluator knows indexing as something
// other than a function, so an overload of the operator would type-check and then fail. The name cannot be written in
// an expression.
const letter = "@letter"

// environment is what candidates may use.
func environment() (*cel.Env, error) {
	element := cel.TypeParamType("T")
	return cel.NewEnv(
		cel.Variable("given", cel.StringType),
		cel.Variable("family", cel.StringType),
		cel.Variable("email", cel.StringType),
		cel.Variable("external_id", cel.StringType),
		cel.Function(letter,
			cel.Overload("letter_of_string", []*cel.Type{cel.StringType, cel.IntType}, cel.StringType, cel.BinaryBinding(letterOf)),
			cel.Overload("element_of_list", []*cel.Type{cel.ListType(element), cel.IntType}, element, cel.BinaryBinding(elementOf)),
		),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(1000),
		cel.ParserRecursionLimit(32),
	)
}

// letterOf is the i-th letter of a text; "" beyond its end, so that given[0] + family does for who has one name only.
func letterOf(text, index ref.Val) ref.Val {
	i, ok := index.(types.Int)
	letters := []rune(string(text.(types.String))) //nolint:forcetypeassert // by the overload's type
	if !ok || i < 0 || int(i) >= len(letters) {
		return types.String("")
	}
	return types.String(letters[i])
}

func elementOf(list, index ref.Val) ref.Val {
	l, ok := list.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(list)
	}
	return l.Get(index)
}

func compile(env *cel.Env, text string) (cel.Program, error) {
	parsed, issues := env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, oneLine(issues)
	}
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(indexByLetter))
	checked, issues := env.Check(parsed)
	if err := issues.Err(); err != nil {
		return nil, oneLine(issues)
	}
	if out := checked.OutputType(); !out.IsExactType(cel.StringType) {
		return nil, fmt.Errorf("gives %s, must give string", cel.FormatCELType(out))
	}
	program, err := env.Program(checked, cel.CostLimit(costLimit))
	if err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	return program, nil
}

// indexByLetter turns x[i] into letter(x, i).
func indexByLetter(e ast.Expr) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.Index {
		return
	}
	e.SetKindCase(ast.NewExprFactory().NewCall(e.ID(), letter, e.AsCall().Args()...))
}

// oneLine is the first of what is wrong, without the picture of the place that CEL draws.
func oneLine(issues *cel.Issues) error {
	first := issues.Errors()[0]
	message := strings.ReplaceAll(strings.Join(strings.Fields(first.Message), " "), letter, operators.Index)
	return fmt.Errorf("%s (at character %d)", message, first.Location.Column()+1)
}
