package model

import (
	"slices"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// condition is a rule's `members`: parts that must all hold.
//
// CEL's && does not depend on order: it is false when any side is false, even if another one errs. holds keeps that,
// so evaluating part by part gives exactly what CEL would.
type condition []part

// part is one side of the top-level && of a condition: a comparison that is done here, or a program of CEL.
type part struct {
	text    string // as CEL prints it, for explanations
	compare *comparison
	program cel.Program
}

// comparison is person.field == "x", != "x", in ["x", …], or the same of a for_each value. Most rules consist of
// them, they cannot err, and doing them here takes a hundredth of the time.
type comparison struct {
	field    int // in fields; -1: the for_each value `variable`
	variable int
	values   []string
	negated  bool
}

func (c *comparison) holds(s *scope) bool {
	var value string
	if c.field >= 0 {
		value = *fields[c.field].at(s.person)
	} else {
		value = s.values[c.variable]
	}
	return slices.Contains(c.values, value) != c.negated
}

// holds says whether every part holds; when not, which is the first that does not. A part that errs counts only when
// none is false.
func (c condition) holds(s *scope) (ok bool, failed int, err *Failure) {
	failed = -1
	for i := range c {
		holds, failure := c[i].holds(s)
		switch {
		case failure != nil && err == nil:
			failed, err = i, failure
		case failure == nil && !holds:
			return false, i, nil
		}
	}
	return err == nil, failed, err
}

func (p *part) holds(s *scope) (bool, *Failure) {
	if p.compare != nil {
		return p.compare.holds(s), nil
	}
	return isTrue(p.program, s, p.text)
}

// compileCondition checks a condition and splits it.
func (l *language) compileCondition(source string, variables []string) (condition, []mistake) {
	_, whole, mistakes := l.check(source, variables, cel.BoolType)
	if mistakes != nil {
		return nil, mistakes
	}
	info := whole.NativeRep().SourceInfo()
	var parts condition
	for _, side := range sides(whole.NativeRep().Expr()) {
		written, err := cel.ExprToString(side, info)
		if err != nil {
			return nil, []mistake{{what: err.Error()}}
		}
		p := part{text: written, compare: asComparison(side, variables)}
		if p.compare == nil {
			if p.program, mistakes = l.compile(written, variables, cel.BoolType); mistakes != nil {
				return nil, mistakes
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// sides returns what the top-level && of an expression joins, from left to right.
func sides(e celast.Expr) []celast.Expr {
	if e.Kind() != celast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []celast.Expr{e}
	}
	var all []celast.Expr
	for _, arg := range e.AsCall().Args() {
		all = append(all, sides(arg)...)
	}
	return all
}

// asComparison returns nil for what is not a comparison.
func asComparison(e celast.Expr, variables []string) *comparison {
	if e.Kind() != celast.CallKind || len(e.AsCall().Args()) != 2 {
		return nil
	}
	left, right := e.AsCall().Args()[0], e.AsCall().Args()[1]
	c := &comparison{}
	switch e.AsCall().FunctionName() {
	case operators.Equals, operators.NotEquals:
		c.negated = e.AsCall().FunctionName() == operators.NotEquals
		if left.Kind() == celast.LiteralKind {
			left, right = right, left
		}
		value, ok := literal(right)
		if !ok {
			return nil
		}
		c.values = []string{value}
	case operators.In:
		if right.Kind() != celast.ListKind || len(right.AsList().OptionalIndices()) > 0 {
			return nil
		}
		for _, element := range right.AsList().Elements() {
			value, ok := literal(element)
			if !ok {
				return nil
			}
			c.values = append(c.values, value)
		}
	default:
		return nil
	}
	switch left.Kind() {
	case celast.SelectKind:
		operand := left.AsSelect().Operand()
		if operand.Kind() != celast.IdentKind || operand.AsIdent() != "person" || left.AsSelect().IsTestOnly() {
			return nil
		}
		c.field = fieldNamed(left.AsSelect().FieldName())
		if c.field < 0 {
			return nil
		}
	case celast.IdentKind:
		c.field, c.variable = -1, slices.Index(variables, left.AsIdent())
		if c.variable < 0 {
			return nil
		}
	default:
		return nil
	}
	return c
}

func literal(e celast.Expr) (string, bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
