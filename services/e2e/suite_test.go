package e2e

import "testing"

// suiteJournal reads the suite's own journal: what it says changed something there.
func (s *storm) suiteJournal(t *testing.T) (journal []effect) {
	t.Helper()
	for _, change := range s.suite.Journal(t) {
		journal = append(journal, effect{account: change.Login, op: change.Op, target: change.Group})
	}
	return journal
}
