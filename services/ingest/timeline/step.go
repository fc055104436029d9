package timeline

import "time"

// At is what the facts say about the instant t. It does not depend on their order or on repeats.
func At(facts []Fact, t time.Time) State { return State{At: t} }

// Step takes in what was said about an employment and lets time pass until now.
//
// Known are the facts taken in before, said the new ones; either may be empty. Before is the state that the last Step
// came to, the zero State when there was none; it may be had again as At(known, before.At). The same fact again, or
// a Step with nothing said before Next, brings no event. A now that lies before before.At counts as before.At: what was
// decided is not undecided by a clock that went back.
func Step(known, said []Fact, before State, now time.Time) Decision {
	return Decision{State: before, Accepted: said}
}
