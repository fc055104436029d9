package brake

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// maxCount is the greatest count a limit may name: more people than anybody employs.
const maxCount = 100_000_000

// Limit says how many people may lose access in a window, in numbers and parts of the population: "50", "10%",
// "max(5,min(50,5%))".
type Limit struct {
	text string
	of   func(population int) int
}

// ParseLimit reads a limit. An error says what is wrong and where, counted in characters from 1.
func ParseLimit(text string) (Limit, error) {
	p := parser{text: []rune(text)}
	of, err := p.limit()
	if err == nil && p.skip() < len(p.text) {
		err = p.wrong("nothing more")
	}
	if err != nil {
		return Limit{}, fmt.Errorf("%q is no limit: %w", text, err)
	}
	return Limit{text: text, of: of}, nil
}

// Defaults are the limits where nobody says others.
func Defaults() Limits {
	return Limits{
		PerHour: mustParse("max(5,min(50,5%))"), PerDay: mustParse("10%"), PerAppDay: mustParse("20%"),
		PrivilegedPerDay: mustParse("max(5,1%)"),
	}
}

func mustParse(text string) Limit {
	l, err := ParseLimit(text)
	if err != nil {
		panic(err) // a text above
	}
	return l
}

// Of is the limit for so many people. A part of them is rounded down, and the zero Limit allows nobody.
func (l Limit) Of(population int) int {
	if l.of == nil {
		return 0
	}
	return l.of(max(population, 0))
}

// String is the limit as it was written.
func (l Limit) String() string { return l.text }

// parser reads: number | number% | min(limit, limit, …) | max(limit, limit, …)
type parser struct {
	text  []rune
	at    int
	depth int
}

// maxDepth is how deep limits may be nested.
const maxDepth = 8

func (p *parser) skip() int {
	for p.at < len(p.text) && unicode.IsSpace(p.text[p.at]) {
		p.at++
	}
	return p.at
}

func (p *parser) wrong(want string) error {
	return fmt.Errorf("want %s at character %d", want, p.at+1)
}

func (p *parser) takes(r rune) bool {
	if p.skip() < len(p.text) && p.text[p.at] == r {
		p.at++
		return true
	}
	return false
}

// word takes what satisfies is.
func (p *parser) word(is func(rune) bool) string {
	from := p.skip()
	for p.at < len(p.text) && is(p.text[p.at]) {
		p.at++
	}
	return string(p.text[from:p.at])
}

func (p *parser) limit() (func(int) int, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.wrong("less nesting")
	}
	defer func() { p.depth-- }()
	if digits := p.word(func(r rune) bool { return r >= '0' && r <= '9' || r == '.' }); digits != "" {
		return p.number(digits)
	}
	switch name := p.word(unicode.IsLetter); strings.ToLower(name) {
	case "min":
		return p.pick(func(a, b int) int { return min(a, b) })
	case "max":
		return p.pick(func(a, b int) int { return max(a, b) })
	}
	return nil, p.wrong("a number, a percentage, min(…) or max(…)")
}

func (p *parser) number(digits string) (func(int) int, error) {
	n, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil || n > maxCount:
		return nil, p.wrong("a number up to 100 million")
	case p.takes('%'):
		if n > 100 {
			return nil, p.wrong("at most 100%")
		}
		return func(population int) int { return int(math.Floor(float64(population)*n/100 + 1e-9)) }, nil
	case n != math.Trunc(n):
		return nil, p.wrong("a whole number, or a percentage")
	}
	return func(int) int { return int(n) }, nil
}

// pick reads the arguments of min or max.
func (p *parser) pick(better func(a, b int) int) (func(int) int, error) {
	if !p.takes('(') {
		return nil, p.wrong("(")
	}
	var all []func(int) int
	for {
		one, err := p.limit()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if p.takes(')') {
			break
		}
		if !p.takes(',') {
			return nil, p.wrong(", or )")
		}
	}
	return func(population int) int {
		best := all[0](population)
		for _, one := range all[1:] {
			best = better(best, one(population))
		}
		return best
	}, nil
}
