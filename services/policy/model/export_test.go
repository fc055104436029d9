package model

// EvaluateUnindexed looks at every role, so that a test can say that the index changes nothing.
func (m *Model) EvaluateUnindexed(p *Person) ([]Grant, []RuleError) {
	plain := *m
	plain.indexes, plain.always = nil, nil
	for i := range m.roles {
		plain.always = append(plain.always, i)
	}
	return plain.Evaluate(p)
}

// Candidates returns how many roles are looked at for a person.
func (m *Model) Candidates(p *Person) int { return len(m.candidates(p)) }
