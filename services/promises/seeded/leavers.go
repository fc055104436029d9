package seeded

// OfLeavers are bugs by which somebody who leaves waits for those who join, or by which nobody hears that they cannot be let go of.
func OfLeavers() []Bug {
	bug := func(name, pkg, test string, edits ...Edit) Bug {
		return Bug{Name: name, Promise: "P5", Package: pkg, Test: test, Edits: edits}
	}
	const worker = "services/provision/internal/worker"
	return []Bug{
		bug("a leaver is announced behind joiners", "services/ingest", "TestALeaverTravelsInTheUrgentLane",
			Edit{"take.go", "		lane = eventv1.Lane_LANE_URGENT\n", ""}),
		bug("what a leaver loses is announced behind what joiners get", "services/policy", "TestAJoinerAMoverAndALeaverHaveWhatTheModelSaysAndItIsAnnounced",
			Edit{"decision.go", "	return eventv1.Lane_LANE_URGENT\n", "	return eventv1.Lane_LANE_NORMAL\n"}),
		bug("what is not urgent leaves the outbox first", "pkg/outbox", "TestUrgentEventsOvertakeTenThousand",
			Edit{"store.go", "cmp.Or(cmp.Compare(a.lane, b.lane), ", "cmp.Or(cmp.Compare(b.lane, a.lane), "}),
		bug("joiners may have every slot", worker, "TestAQuarterOfTheSlotsIsKeptForUrgentWork",
			Edit{"slots.go", "	return max(1, size/4)\n", "	return 0\n"}),
		bug("a free slot goes to whoever takes it", worker, "TestWithOneSlotUrgentWorkIsNext",
			Edit{"slots.go", "s.used < s.size && s.hurrying == 0 && ", "s.used < s.size && "}),
		bug("urgent calls wait their turn", worker, "TestUrgentCallsOvertakeTheRate",
			Edit{"pacer.go", "if !urgent && p.hurrying > 0 {", "if false {"}),
		{
			Name: "a leaver in an application that is down is nobody's to see to", Promise: "P5", Package: "services/provision", Test: "TestALeaverInAnApplicationThatIsDownPagesSomebody",
			Source: worker, Edits: []Edit{{"repair.go", "	if len(late) == 0 {\n", "	if late = nil; len(late) == 0 {\n"}},
		},
	}
}
