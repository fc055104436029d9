package model

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"github.com/goccy/go-yaml/ast"
)

// builder makes a model of files and collects what is wrong with them.
type builder struct {
	reader
	language     *language
	anywhere     bool // grants may name any application
	applications []string
	model        *Model
}

func (b *builder) file(doc node) {
	keys := b.mapping(doc, "entitlements", "roles", "tests")
	if n, ok := keys["entitlements"]; ok {
		for _, item := range b.list(n) {
			b.entitlement(item)
		}
	}
	if n, ok := keys["roles"]; ok {
		for _, item := range b.list(n) {
			b.role(item)
		}
	}
	if n, ok := keys["tests"]; ok {
		for _, item := range b.list(n) {
			b.test(item)
		}
	}
}

// required returns the value of a key that must be there.
func (b *builder) required(n node, keys map[string]node, key string) (node, bool) {
	value, ok := keys[key]
	if !ok {
		b.problem(n, "%s is missing", key)
	}
	return value, ok
}

// application reads the name of an application.
func (b *builder) application(n node) (string, bool) {
	name, ok := b.text(n)
	if !ok {
		return "", false
	}
	return name, b.checkApplication(n, name)
}

func (b *builder) checkApplication(n node, name string) bool {
	switch {
	case !applicationName.MatchString(name):
		b.problem(n, "%q is not the name of an application: 1 to 40 of a-z, 0-9 and -", name)
	case b.anywhere || slices.Contains(b.applications, name):
		return true
	case len(b.applications) == 0:
		b.problem(n, "unknown application %q: none is configured", name)
	default:
		b.problem(n, "unknown application %q; configured are %s", name, strings.Join(b.applications, ", "))
	}
	return false
}

func (b *builder) entitlement(n node) {
	keys := b.mapping(n, "app", "id", "level", "can", "privileged")
	var e Entitlement
	good := true
	if app, ok := b.required(n, keys, "app"); ok {
		e.Application, ok = b.application(app)
		good = good && ok
	}
	if id, ok := b.required(n, keys, "id"); ok {
		e.ID, ok = b.text(id)
		if what := checkEntitlement(e.ID); ok && what != "" {
			b.problem(id, "%s", what)
		}
	}
	if level, ok := keys["level"]; ok {
		e.Level, ok = b.text(level)
		if ok && !levelName.MatchString(e.Level) {
			b.problem(level, "%q is not a level: a short name of a-z, 0-9 and -", e.Level)
		}
	}
	if can, ok := keys["can"]; ok {
		for _, verb := range b.texts(can) {
			switch {
			case !slices.Contains(Verbs[:], verb.key):
				b.problem(verb.value, "%q is none of %s", verb.key, strings.Join(Verbs[:], ", "))
			case slices.Contains(e.Can, verb.key):
				b.problem(verb.value, "%q stands here twice", verb.key)
			default:
				e.Can = append(e.Can, verb.key)
			}
		}
		slices.Sort(e.Can)
	}
	if privileged, ok := keys["privileged"]; ok {
		e.Privileged = b.flag(privileged)
	}
	ref := Ref{e.Application, e.ID}
	if _, twice := b.model.catalogue[ref]; twice && good {
		b.problem(n, "%s of %s is in the catalogue already", e.ID, e.Application)
	}
	b.model.catalogue[ref] = e
}

func (b *builder) role(n node) {
	keys := b.mapping(n, "name", "members", "for_each", "grants")
	r := role{file: n.file, line: n.line}
	if len(b.model.roles) == maxRoles {
		b.problem(n, "more than %d roles", maxRoles)
		return
	}
	if name, ok := b.required(n, keys, "name"); ok {
		r.name, ok = b.text(name)
		if ok && !roleName.MatchString(r.name) {
			b.problem(name, "%q is not a name: 1 to 63 of letters, digits, '.', '_' and '-'", r.name)
		}
		if other, twice := b.model.byName[r.name]; ok && twice {
			first := b.model.roles[other]
			b.problem(name, "role %q stands in %s:%d already", r.name, first.file, first.line)
		}
	}
	if each, ok := keys["for_each"]; ok {
		b.forEach(each, &r)
	}
	if members, ok := b.required(n, keys, "members"); ok {
		r.members, ok = b.text(members)
		if ok {
			var mistakes []mistake
			r.condition, mistakes = b.language.compileCondition(r.members, r.variables)
			b.mistakes(members, mistakes)
		}
	}
	if grants, ok := b.required(n, keys, "grants"); ok {
		items := b.list(grants)
		if _, isList := grants.ast.(*ast.SequenceNode); isList && len(items) == 0 {
			b.problem(grants, "is empty: a role that gives nothing means nothing")
		}
		if len(items) > maxGrants {
			b.problem(grants, "more than %d grants", maxGrants)
			items = nil
		}
		for _, item := range items {
			b.grant(item, &r)
		}
	}
	// Even a role with problems is kept, so that a second one with its name is found.
	if _, twice := b.model.byName[r.name]; !twice {
		b.model.byName[r.name] = len(b.model.roles)
	}
	b.model.roles = append(b.model.roles, r)
}

func (b *builder) forEach(n node, r *role) {
	entries := b.entries(n)
	slices.SortFunc(entries, func(a, c entry) int { return strings.Compare(a.key, c.key) })
	for _, e := range entries {
		if !bindingName.MatchString(e.key) || e.key == "person" || slices.Contains(reserved[:], e.key) {
			b.problem(e.value, "%q cannot be the name of a value: use a short name of a-z, 0-9 and _", e.key)
			continue
		}
		source, ok := b.text(e.value)
		if !ok {
			continue
		}
		program, mistakes := b.language.compile(source, nil, cel.ListType(cel.StringType))
		b.mistakes(e.value, mistakes)
		// A variable even when it is wrong, so that its uses are not reported too.
		r.each = append(r.each, values{source: source, program: program})
		r.variables = append(r.variables, e.key)
	}
	if m, ok := n.ast.(*ast.MappingNode); ok && len(m.Values) == 0 {
		b.problem(n, "is empty")
	}
}

// reserved words of CEL cannot name a value.
var reserved = [...]string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
	"namespace", "null", "package", "return", "true", "var", "void", "while",
}

func (b *builder) grant(n node, r *role) {
	keys := b.mapping(n, "app", "entitlement")
	var g grant
	if app, ok := b.required(n, keys, "app"); ok {
		g.application, _ = b.application(app)
	}
	g.entitlement = template{texts: []string{""}}
	if entitlement, ok := keys["entitlement"]; ok {
		id, ok := b.text(entitlement)
		if !ok {
			return
		}
		what := checkEntitlement(id)
		if what == "" {
			g.entitlement, what = parseTemplate(id, r.variables)
		}
		if what != "" {
			b.problem(entitlement, "%s", what)
			return
		}
	}
	if slices.ContainsFunc(r.grants, func(other grant) bool {
		return other.application == g.application && slices.Equal(other.entitlement.texts, g.entitlement.texts) &&
			slices.Equal(other.entitlement.variables, g.entitlement.variables)
	}) {
		b.problem(n, "this role gives it already")
	}
	r.grants = append(r.grants, g)
}

// mistakes reports what is wrong with the expression at n.
func (b *builder) mistakes(n node, found []mistake) {
	for _, m := range found {
		at, what := n, m.what
		if m.line > 0 {
			if _, block := n.ast.(*ast.LiteralNode); block {
				at.line += m.line
			}
			what = fmt.Sprintf("column %d of the expression: %s", m.column+1, m.what)
		}
		b.problem(at, "%s", what)
	}
}
