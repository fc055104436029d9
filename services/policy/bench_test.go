package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy"
)

// large has 200 roles over five applications.
func large(cfg *policy.Config, _ *policy.Deps) {
	for _, name := range []string{"mail", "tickets"} {
		cfg.Applications = append(cfg.Applications, policy.Application{Name: name, Environment: "prod"})
	}
}

func largeModel() string {
	var b strings.Builder
	b.WriteString("roles:\n")
	for _, app := range []string{"wiki", "code", "warehouse", "mail", "tickets"} {
		fmt.Fprintf(&b, "  - {name: %s, members: 'true', grants: [{app: %s, entitlement: staff}]}\n", app, app)
	}
	for i := range 195 {
		members := fmt.Sprintf(`person.department == "d%03d" && person.title != "Manager"`, i%40)
		switch i % 10 {
		case 8:
			members = fmt.Sprintf(`person.title.startsWith("Staff %d")`, i)
		case 9:
			members = fmt.Sprintf(`person.attributes[?"cost_center"].orValue("") == "%d"`, i)
		}
		fmt.Fprintf(&b, "  - {name: r%d, members: '%s', grants: [{app: code, entitlement: e%d}]}\n", i, members, i)
	}
	return b.String()
}

// BenchmarkDecideAndSave is one lifecycle event of a person into five applications: each decision changes all five.
func BenchmarkDecideAndSave(b *testing.B) {
	for _, engine := range sqltest.Engines {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", engine, batch), func(b *testing.B) {
				w := newWorld(b, sqltest.New(b, engine, policy.Migrations()...))
				s := w.service(large)
				w.apply(s, largeModel())
				ids := make([]string, batch)
				b.ResetTimer()
				for range b.N {
					b.StopTimer()
					for i := range ids {
						ids[i] = w.people.put(person(active, fmt.Sprintf("d%03d", i%40))).GetId()
					}
					b.StartTimer()
					if err := s.Decide(b.Context(), ids...); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "µs/event")
			})
		}
	}
}

// BenchmarkSimulate100000People compares two models of 200 roles over everybody.
func BenchmarkSimulate100000People(b *testing.B) {
	w := newWorld(b, sqltest.New(b, sqltest.Engines[0], policy.Migrations()...))
	s := w.service(large)
	w.apply(s, largeModel())
	for i := range 100_000 {
		w.people.put(person(active, fmt.Sprintf("d%03d", i%40)))
	}
	proposed := strings.ReplaceAll(largeModel(), "entitlement: e7}", "entitlement: e7x}")
	for b.Loop() {
		sent := &stream[accessv1.DiffModelResponse]{ctx: b.Context()}
		if err := s.DiffModel(&accessv1.DiffModelRequest{Files: files(proposed)}, sent); err != nil {
			b.Fatal(err)
		}
		if last := sent.sent[len(sent.sent)-1]; last.GetPeopleDone() != 100_000 || last.GetGaining() != 2_500 {
			b.Fatalf("summary: %v", last)
		}
	}
}
