package seeded

// OfTheBrake are bugs of policy's part of the brake: what the pure core cannot get wrong.
func OfTheBrake() []Bug {
	bug := func(name, test string, edits ...Edit) Bug {
		return Bug{Name: name, Promise: "P11", Package: "services/policy", Test: test, Edits: edits}
	}
	return []Bug{
		bug("a batch is counted and not the window", "TestADripOfLeaversIsHeldByTheDay",
			Edit{"brake.go", "before = spent(removed, now)\n", "before = brake.Spent{Apps: map[string]int{}}\n"}),
		bug("the windows are not shared by replicas", "TestReplicasShareTheCount",
			Edit{"brake.go", "removed, err := s.removed(ctx, tx, population, changes, now)", "removed, err := s.lost(), error(nil)"},
			Edit{"brake.go", "	if err := tx.PutRemoved(ctx, released); err != nil {", `	for _, r := range released {
		removed[r.Person] = r
	}
	if err := tx.PutRemoved(ctx, released); err != nil {`},
			Edit{"brake.go", "// removed returns who lost", `var losses sync.Map // of each replica

func (s *Service) lost() map[string]store.Removed {
	own, _ := losses.LoadOrStore(s, map[string]store.Removed{})
	return own.(map[string]store.Removed)
}

// removed returns who lost`}),
		{
			Name: "the lock is taken after the read", Promise: "P11", Package: "services/policy", Test: "TestReplicasShareTheCount", Chance: true,
			Edits: []Edit{{"brake.go", `	if err := tx.LockBrake(ctx); err != nil {
		return nil, err
	}
	verdicts, err := s.judge(ctx, tx, population, changes)
	if err != nil {
		return nil, err
	}
`, `	verdicts, err := s.judge(ctx, tx, population, changes)
	if err != nil {
		return nil, err
	}
	if err := tx.LockBrake(ctx); err != nil {
		return nil, err
	}
`}},
		},
		bug("who loses more later is not counted from then on", "TestWhoLosesMoreLaterIsCountedFromThenOn",
			Edit{"brake.go", "for i, c := range changes {\n		if !verdicts[i].Released()", "for i, c := range uncounted {\n		if !verdicts[i].Released()"}),
		bug("a release is not bound to what was shown", "TestAHoldIsReleasedByTwoPeopleWhoWereShownExactlyThat",
			Edit{"holds.go", "if !bytes.Equal(hash, hashOf(id, held)) {", "if len(hash) == 0 {"}),
		bug("the second word counts for what the first one was not shown", "TestAHoldIsReleasedByTwoPeopleWhoWereShownExactlyThat",
			Edit{"holds.go", " || !bytes.Equal(asked.Hash, hash)\n", "\n"}),
		bug("one operator is two", "TestAHoldIsReleasedByTwoPeopleWhoWereShownExactlyThat",
			Edit{"holds.go", "if !needsSecond && asked.Actor == actor {", "if !needsSecond && asked.Actor == \"\" {"}),
		bug("a rejection and a release are one agreement", "TestARejectedHoldStaysUntilANewerDecision",
			Edit{"holds.go", " || asked.Verdict != verdict", ""}),
		bug("what is held is carried out", "TestAHeldPersonKeepsEverythingAndGetsNothingNew",
			Edit{"decision.go", "if kept.isHeld[d.Person] {", "if kept.isHeld[\"\"] {"}),
		bug("room lets out what is held", "TestRoomLetsNobodyOutWhoIsHeld",
			Edit{"decision.go", "r.stays, r.cause = true, causeFromProto", "r.stays, r.cause = false, causeFromProto"}),
		bug("any announcement corroborates", "TestBeyondTheLimitOnlyCorroboratedLeaversPass",
			Edit{"impact.go", "case !e.KnownAt.IsZero() && e.EndedAt.Sub(e.KnownAt) >= announcedFor:", "case !e.KnownAt.IsZero() && e.EndedAt.After(e.KnownAt):"}),
		bug("an imported file is an operator's word", "TestBeyondTheLimitOnlyCorroboratedLeaversPass",
			Edit{"impact.go", "s.cfg.Manual != \"\" && t.source == s.cfg.Manual && ", ""}),
		bug("who does not leave is corroborated", "TestBeyondTheLimitOnlyCorroboratedLeaversPass",
			Edit{"impact.go", "case employed(p), e.EndedAt.IsZero():", "case p.GetId() == \"\":"}),
		bug("drift is not counted", "TestWhatAWorkerWantsToTakeAwayCountsAndIsHeldAsWell",
			Edit{"release.go", "if verdicts[0].Released() {\n			event :=", "if len(verdicts) > 0 {\n			event :="},
			Edit{"release.go", "if !verdicts[0].Released() && !sure {", "if len(verdicts) == 0 {"}),
		bug("who is held loses what no decision ordered", "TestWhatAWorkerWantsToTakeAwayCountsAndIsHeldAsWell",
			Edit{"release.go", "case decision.Status != store.NotHeld:", "case decision.Status == store.Rejected:"}),
		bug("what is given and privileged is not counted", "TestOnlySoManyADayAreGivenSomethingPrivileged",
			Edit{"brake.go", "elevated = append(elevated, c.Person)", "elevated = append(elevated[:0], elevated...)"}),
	}
}
