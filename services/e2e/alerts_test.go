package e2e

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// What operators are called for must be what there is to see: a rule about a figure of another name is never true.
func TestTheAlertsAreAboutFiguresThatThereAre(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      struct{ Severity string }
				Annotations struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.UnmarshalWithOptions([]byte(read(t, filepath.Join(root, "deploy", "prometheus", "alerts.yaml"))), &rules, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	page := read(t, filepath.Join(root, "docs", "operations.md"))
	figure, label := regexp.MustCompile(`tenure_[a-z_]+`), regexp.MustCompile(`\$labels\.(\w+)`)
	watched := map[string]bool{}
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			names := figure.FindAllString(r.Expr, -1)
			if len(names) == 0 && !strings.HasPrefix(r.Expr, "up{") {
				t.Errorf("%s is about nothing of Tenure's: %s", r.Alert, r.Expr)
			}
			for _, name := range names {
				watched[name] = true
				if !strings.Contains(page, "`"+name+"`") {
					t.Errorf("%s is about %s, of which docs/operations.md does not tell", r.Alert, name)
				}
			}
			if !slices.Contains([]string{"page", "ticket"}, r.Labels.Severity) || r.Annotations.Summary == "" || r.Annotations.Description == "" {
				t.Errorf("%s does not say how bad it is, what it is, or what to do", r.Alert)
			}
			for _, found := range label.FindAllStringSubmatch(r.Annotations.Summary+r.Annotations.Description, -1) {
				kept := strings.Contains(r.Expr, " by (") // else all labels are there
				if kept && !regexp.MustCompile(` by \([^)]*\b`+found[1]+`\b`).MatchString(r.Expr) {
					t.Errorf("%s names the label %s, which its expression drops", r.Alert, found[1])
				}
			}
		}
	}
	for _, name := range []string{
		"tenure_oldest_due_seconds", "tenure_stuck_items", "tenure_breaker_open", "tenure_connector_steps_total", "tenure_connector_unseen_steps_total",
		"tenure_outbox_oldest_seconds", "tenure_audit_behind", "tenure_holds_open", "tenure_clock_off_seconds", "tenure_ingest_auth_failures_total",
	} {
		if !watched[name] {
			t.Errorf("no rule watches %s", name)
		}
	}
}
