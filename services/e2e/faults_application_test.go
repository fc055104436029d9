package e2e

import "testing"

// applicationFaults are those of an application.
var applicationFaults = []fault{
	{name: "the application answers 429", world: inOneProcess, alarm: "urgent work waits", begin: with(func(*testing.T) temper { return throttles })},
	{name: "the application hangs", world: inOneProcess, alarm: "reads fail", quick: true, begin: with(func(*testing.T) temper { return hangs })},
	{name: "the application resets connections", world: inOneProcess, alarm: "reads fail", quick: true, begin: with(func(*testing.T) temper { return resets })},
	{name: "the application commits and loses the reply", world: inOneProcess, alarm: "steps fail", begin: with(func(*testing.T) temper { return losesReplies })},
	{name: "the application answers 200 and does nothing", world: inOneProcess, alarm: "steps fail", begin: with(func(*testing.T) temper { return lies })},
	{name: "the application's search is stale", world: inOneProcess, alarm: "urgent work waits", begin: with(stale)},
	{name: "the application commits, loses the reply, and its search is stale", world: inOneProcess, alarm: "steps fail", begin: with(losesAndForgets)},
}

// with lets the application misbehave until the fault's end.
func with(misbehaves func(*testing.T) temper) func(*testing.T, *world) func() {
	return func(t *testing.T, w *world) func() {
		t.Helper()
		w.gate.set(misbehaves(t))
		return func() {
			await(t, "the application to have misbehaved", func() (bool, string) { return w.gate.count() > 0, "it was asked nothing" })
			w.gate.set(nil)
		}
	}
}
