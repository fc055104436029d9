package model_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/services/policy/model"
)

// largeModel has 200 roles as a company writes them: most ask for a department or a title, some for more.
func largeModel() string {
	var b strings.Builder
	b.WriteString("roles:\n  - {name: everyone, members: 'true', grants: [{app: wiki, entitlement: staff}]}\n")
	for i := range 199 {
		members := fmt.Sprintf(`person.department == "d%03d" && person.title in ["Engineer", "Senior Engineer"]`, i%40)
		switch i % 10 {
		case 7:
			members = fmt.Sprintf(`person.title == "Title %d"`, i)
		case 8:
			members = fmt.Sprintf(`person.title.startsWith("Staff %d") && person.department == "d%03d"`, i, i%40)
		case 9:
			members = fmt.Sprintf(`person.attributes[?"cost_center"].orValue("") == "%d"`, i)
		}
		fmt.Fprintf(&b, "  - {name: r%d, members: '%s', grants: [{app: code, entitlement: e%d}]}\n", i, members, i)
	}
	return b.String()
}

func BenchmarkDecisionBy200Roles(b *testing.B) {
	m := load(b, largeModel())
	p := &model.Person{
		Status: "active", Department: "d005", Title: "Senior Engineer", Attributes: map[string]string{"cost_center": "4711"},
	}
	b.Logf("%d of %d roles are looked at", m.Candidates(p), m.Roles())
	b.Run("indexed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Evaluate(p)
		}
	})
	b.Run("every role", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.EvaluateUnindexed(p)
		}
	})
}

func BenchmarkLoad200Roles(b *testing.B) {
	text := largeModel()
	for b.Loop() {
		load(b, text)
	}
}
