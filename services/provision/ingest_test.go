package provision_test

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/cut"
)

const (
	kindCut  = eventv1.LifecycleKind_LIFECYCLE_KIND_CUT
	kindLift = eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT
)

// ingest is ingest as far as a worker sees it: who is cut, and the key that signs.
type ingest struct {
	peoplev1.UnimplementedPeopleServiceServer
	t   testing.TB
	bus *bus.Bus
	key *cut.Key

	mu    sync.Mutex
	cuts  map[string]*peoplev1.CutState
	seq   uint64
	away  bool
	asked map[string]bool // about whom a question was answered
}

func newIngest(tb testing.TB, events *bus.Bus) *ingest {
	tb.Helper()
	return &ingest{t: tb, bus: events, key: newKey(tb), cuts: map[string]*peoplev1.CutState{}, asked: map[string]bool{}}
}

func newKey(tb testing.TB) *cut.Key {
	tb.Helper()
	key, err := cut.Open(filepath.Join(tb.TempDir(), "cuts.key"))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// leave stops and starts answering.
func (s *ingest) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *ingest) GetCuts(req *peoplev1.GetCutsRequest, stream grpc.ServerStreamingServer[peoplev1.GetCutsResponse]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		s.mu.Unlock()
		<-stream.Context().Done()
		s.mu.Lock()
		return stream.Context().Err()
	}
	out := &peoplev1.GetCutsResponse{PublicKey: s.key.Public()}
	for person, c := range s.cuts {
		if len(req.GetPersonIds()) == 0 || slices.Contains(req.GetPersonIds(), person) {
			out.Cuts = append(out.Cuts, c)
		}
	}
	for _, person := range req.GetPersonIds() {
		s.asked[person] = true
	}
	return stream.Send(out)
}

// untilAsked waits until a question about a person was answered.
func (s *ingest) untilAsked(person string) {
	s.t.Helper()
	until(s.t, "question about "+person, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.asked[person]
	})
}

// know makes a cut or a lift true, and tells nobody.
func (s *ingest) know(kind eventv1.LifecycleKind, person string, version uint64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().UTC().Truncate(time.Microsecond)
	s.cuts[person] = &peoplev1.CutState{PersonId: person, PersonVersion: version, Cut: kind == kindCut, At: timestamppb.New(at)}
	return at
}

// order makes a cut or a lift true and announces it, and returns when it was.
func (s *ingest) order(kind eventv1.LifecycleKind, person string, version uint64) time.Time {
	s.t.Helper()
	at := s.know(kind, person, version)
	l := lifecycle(kind, person, version, at)
	s.sign(s.key, l)
	s.say(l)
	return at
}

func lifecycle(kind eventv1.LifecycleKind, person string, version uint64, at time.Time) *eventv1.Lifecycle {
	return &eventv1.Lifecycle{
		PersonId: person, PersonVersion: version, Kind: kind, EffectiveAt: timestamppb.New(at), KnownAt: timestamppb.New(at), Actor: "operator:ada",
	}
}

func (s *ingest) sign(key *cut.Key, l *eventv1.Lifecycle) {
	s.t.Helper()
	if err := key.Sign(l); err != nil {
		s.t.Fatal(err)
	}
}

// say puts an event on the bus, whoever made it.
func (s *ingest) say(l *eventv1.Lifecycle) {
	s.t.Helper()
	s.mu.Lock()
	s.seq++
	e := bus.NewEvent(bus.LifecycleSubject(urgent, l.GetKind(), l.GetPersonId()), l, bus.Cause{})
	e.Origin, e.Seq, e.Time = "ingest", s.seq, time.Now().UTC()
	s.mu.Unlock()
	if err := s.bus.PublishChunk(s.t.Context(), []bus.Event{e}); err != nil {
		s.t.Fatal(err)
	}
}
