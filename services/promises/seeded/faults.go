package seeded

// OfFaults are bugs that show when something goes wrong elsewhere, each with the fault that shows it. The first three were Tenure's own
// until the faults were tried.
func OfFaults() []Bug {
	bug := func(name, source, fault string, edits ...Edit) Bug {
		return Bug{
			Name: name, Promise: "P14", Package: "services/e2e", Test: "TestFaultsAreSeenAndHealWithoutHands",
			Within: "/^" + fault + "$", Source: source, Edits: edits,
		}
	}
	return []Bug{
		bug("a NATS node that falls silent is not left", "pkg/bus", "a_NATS_node_is_paused",
			Edit{"bus.go", "nats.PingInterval(pingInterval)", "nats.PingInterval(24*pingInterval)"}),
		bug("an embedded server that cannot write is left as it is", "pkg/bus", "the_stream's_disk_is_full",
			Edit{"restart.go", "return !s.nats.JetStreamEnabled() || s.lines.cannotWrite.Load()", "return false"}),
		bug("a call ends by the machine's clock", "services/provision/internal/worker", "the_workers'_clock_is_an_hour_ahead",
			Edit{"application.go", "context.WithTimeout(ctx, req.GetNotAfter().AsTime().Sub(a.now()))", "context.WithDeadline(ctx, req.GetNotAfter().AsTime())"}),
		bug("what could not be stored is accepted", "services/ingest", "PostgreSQL_dies_at_once,_and_is_away",
			Edit{"http.go", "	out, err := s.accept(ctx, feed, delivery, read)\n	if err != nil {\n		return s.ourFault(feed, err)\n", "	out, err := s.accept(ctx, feed, delivery, read)\n	if err != nil {\n		return answer{Delivery: delivery.ID}\n"}),
		bug("what an application calls done is done", "services/provision/internal/worker", "the_application_answers_200_and_does_nothing",
			Edit{"task.go", "		case len(steps) == 0:\n			k.rest(ctx)", "		case len(steps) == 0, last != nil && cause == nil:\n			k.rest(ctx)"}),
	}
}
