package ingest_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
)

func TestARosterIsTakenInOnceAllItsPartsAreIn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		l := list{id: "r1", made: noon, people: some(20000, 25), size: 10}
		bodies := l.bodies()
		for _, n := range []int{2, 0, 2} { // out of order, and one of them twice
			if answer := w.post(fmt.Sprint("part-", n), bodies[n]); answer.status != http.StatusAccepted || answer.Held != nil || len(answer.Items) != len(l.people[n*10:min(25, n*10+10)]) {
				t.Fatalf("part %d was answered %d %s", n, answer.status, answer.text)
			}
			w.judge()
		}
		// The same records in another delivery are a repeat, too.
		w.deliver("part-0-again", strings.Replace(bodies[0], "12:00:00Z", "12:00:01Z", 1))
		w.judge()
		if r := w.roster("r1"); r.GetPartsIn() != 2 || r.GetRecords() != 15 || r.GetJudgedAt() != nil {
			t.Fatalf("a roster that waits for a part is shown as %v", r)
		}
		if got := w.everybody(); len(got) != 0 {
			t.Fatalf("%d people are known before all parts are in", len(got))
		}
		w.deliver("part-1", bodies[1])
		w.judge()
		r := w.roster("r1")
		if r.GetTakenAt() == nil || r.GetHeld() != "" || r.GetChanged() != 25 || r.GetAbsent() != 0 || len(r.GetDeliveries()) != 3 {
			t.Fatalf("a roster that is whole is shown as %v", r)
		}
		if diff := cmp.Diff(want(l.people), w.everybody()); diff != "" {
			t.Errorf("people (-want +got):\n%s", diff)
		}
		w.deliver("part-1", bodies[1])
		w.judge()
		if got := w.count(`SELECT count(*) FROM facts`); got != 25 || w.told() != 25 {
			t.Errorf("%d facts and %d events of 25 people", got, w.told())
		}
	})
}

func TestARosterThatRepeatsWhatIsKnownChangesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 30)
		w.give(list{id: "r1", made: w.clock(), people: people, size: 10})
		before := w.find("20007").GetVersion()
		w.pass(24 * time.Hour)
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "20003", Fields: map[string]string{"title": "Acting Head"}}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Hour)
		changed := slices.Clone(people)
		changed[5] = changed[5].with("department", "d001")
		r := w.give(list{id: "r2", made: w.clock(), people: changed, size: 15})
		if r.GetChanged() != 1 || r.GetTakenAt() == nil {
			t.Fatalf("a roster with one change is shown as %v", r)
		}
		if got := w.count(`SELECT count(*) FROM facts`); got != 32 { // 30, an operator's, and the change
			t.Errorf("%d facts, want 32", got)
		}
		if got := w.find("20007").GetVersion(); got != before {
			t.Errorf("a person of whom nothing new was said has version %d, before %d", got, before)
		}
		if got := w.find("20005").GetRecord().GetDepartment(); got != "d001" {
			t.Errorf("the change is not there: %s", got)
		}
		// The list repeats what HR said before the operator did: it is no newer word than theirs.
		if got := w.find("20003").GetRecord().GetTitle(); got != "Acting Head" {
			t.Errorf("an operator's word is undone by a list that repeats: %s", got)
		}
	})
}

func TestLostWebhooksAreRepairedByTheRoster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("1,771 webhooks, six times")
	}
	rows := history(t)
	for _, lost := range []int{1, 10, 100} {
		t.Run(fmt.Sprintf("%d %% lost", lost), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				half := len(rows) / 2 // until then all is well
				random := rand.New(rand.NewPCG(uint64(lost), 7))
				w.founded(asOf(rows, half), rows[half].made)
				for n := half; n < len(rows); n++ {
					if random.IntN(100) >= lost {
						w.deliver(fmt.Sprint("row-", n), changedAt(rows[n].made, rows[n].says))
					}
				}
				truth := asOf(rows, len(rows))
				missing := diverging(want(truth), w.everybody())
				if missing == 0 {
					t.Fatal("nothing was lost: the test shows nothing")
				}
				people := slices.Clone(truth)
				random.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
				r := w.give(list{id: "night", made: w.clock(), people: people, size: 300})
				if r.GetTakenAt() == nil || int(r.GetChanged()) < missing {
					t.Fatalf("%d people diverge, and the roster is shown as %v", missing, r)
				}
				if diff := cmp.Diff(want(truth), w.everybody()); diff != "" {
					t.Errorf("people (-roster +known):\n%s", diff)
				}
				t.Logf("%d people diverged, %d records of %d said something new, none diverges", missing, r.GetChanged(), len(truth))
				facts, told := w.count(`SELECT count(*) FROM facts`), w.told()
				w.pass(time.Hour)
				again := w.give(list{id: "next-night", made: w.clock(), people: people, size: 250})
				if again.GetTakenAt() == nil || again.GetChanged() != 0 || w.count(`SELECT count(*) FROM facts`) != facts || w.told() != told {
					t.Errorf("the same roster again is shown as %v", again)
				}
			})
		})
	}
}

// founded makes all of these people known.
func (w *world) founded(people []data, made time.Time) {
	w.tb.Helper()
	for chunk := range slices.Chunk(people, 500) {
		w.deliver(fmt.Sprint("founded-", chunk[0]["external_id"]), text(map[string]any{
			"type": "person.batch", "timestamp": made, "data": map[string]any{"people": chunk},
		}))
	}
}

// diverging is how many people are not as they should be.
func diverging(want, got map[string]string) (n int) {
	for id, w := range want {
		if got[id] != w {
			n++
		}
	}
	return n
}

func TestWhoIsNotOnARosterHasNotLeft(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		rows := history(t)
		half := len(rows) * 3 / 4
		w.founded(asOf(rows, half), rows[half].made)
		told, was := w.told(), w.everybody()
		// HR lists who is active at a later date; nobody told of those who left in between.
		truth := asOf(rows, half+60)
		active := working(truth)
		var gone []string
		for _, d := range truth {
			if id := d["external_id"].(string); d["status"] == "terminated" && strings.HasPrefix(was[id], "active") {
				gone = append(gone, id+" 11-22 12:00")
			}
		}
		if len(gone) == 0 {
			t.Fatal("nobody left: the test shows nothing")
		}
		r := w.give(list{id: "r1", made: noon, people: active, size: 400})
		if r.GetTakenAt() == nil || int(r.GetAbsent()) != len(gone) {
			t.Fatalf("%d people left without a word, and the roster is shown as %v", len(gone), r)
		}
		if diff := cmp.Diff(gone, w.absent()); diff != "" {
			t.Errorf("findings (-want +got):\n%s", diff)
		}
		now := w.everybody()
		for _, finding := range gone {
			id, _, _ := strings.Cut(finding, " ")
			if now[id] != was[id] {
				t.Errorf("who is absent was %q and is %q", was[id], now[id])
			}
		}
		if got := w.count(`SELECT count(*) FROM happenings`) - told; got != int(r.GetChanged()) {
			t.Errorf("%d events of %d records that said something new", got, r.GetChanged())
		}
		if got := w.figure("tenure_ingest_roster_absent", "source", "acme-hr"); int(got) != len(gone) {
			t.Errorf("the figure is %v, want %d", got, len(gone))
		}
	})
}

func TestAnAbsenceEndsWhenTheyAppearOrLeave(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 20)
		w.give(list{id: "r1", made: w.clock(), people: people})
		w.pass(24 * time.Hour)
		w.give(list{id: "r2", made: w.clock(), people: people[4:]})
		first := []string{"20000 11-23 12:00", "20001 11-23 12:00", "20002 11-23 12:00", "20003 11-23 12:00"}
		if diff := cmp.Diff(first, w.absent()); diff != "" {
			t.Fatalf("findings (-want +got):\n%s", diff)
		}
		w.pass(time.Hour)
		// An operator corroborates one; HR says something of another, who is there after all.
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "20000", Fields: map[string]string{"status": "terminated"}}); err != nil {
			t.Fatal(err)
		}
		w.deliver("msg-1", changedAt(w.clock(), people[1].with("title", "Manager")))
		if diff := cmp.Diff(first[2:], w.absent()); diff != "" {
			t.Errorf("after a leave and a word of HR (-want +got):\n%s", diff)
		}
		w.pass(24 * time.Hour)
		w.give(list{id: "r3", made: w.clock(), people: people[3:]})
		if diff := cmp.Diff([]string{"20001 11-23 12:00", "20002 11-23 12:00"}, w.absent()); diff != "" {
			t.Errorf("after one of them is listed again (-want +got):\n%s", diff)
		}
		if got := w.find("20000").GetStatus(); got != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("who was said to have left is %s", got)
		}
		if got := w.find("20002").GetStatus(); got != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("who was left out twice is %s", got)
		}
		// Whoever joined after a roster was made cannot be on it.
		w.pass(time.Hour)
		made := w.clock()
		w.pass(time.Hour)
		w.deliver("msg-2", changed(ann().with("external_id", "20099")))
		w.give(list{id: "r4", made: made, people: people})
		if got := w.absent(); len(got) != 0 {
			t.Errorf("absent are %q", got)
		}
	})
}

func TestAnEmploymentThatEndedIsNotAbsentWhileAnotherRuns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 20)
		for i := range 10 { // each of ten has two employments
			people[i] = people[i].with("person_key", fmt.Sprint("k", i/2))
		}
		w.give(list{id: "r1", made: w.clock(), people: people})
		w.pass(time.Hour)
		rest := slices.Clone(people[10:])
		for i := range 10 {
			if i%2 == 0 { // more than a fifth of them, which the contract would not let go
				w.deliver(fmt.Sprint("msg-", i), changedAt(w.clock(), people[i].with("status", "terminated")))
			} else {
				rest = append(rest, people[i])
			}
		}
		w.pass(time.Hour)
		rest = append(rest, some(20100, 5)...)
		if r := w.give(list{id: "r2", made: w.clock(), people: rest}); r.GetTakenAt() == nil || r.GetAbsent() != 0 || len(w.absent()) != 0 {
			t.Errorf("an employment that ended is absent: %v", r)
		}
		w.pass(time.Hour)
		w.give(list{id: "r3", made: w.clock(), people: slices.DeleteFunc(rest, func(d data) bool { return d["external_id"] == "20001" })})
		if diff := cmp.Diff([]string{"20001 11-22 15:00"}, w.absent()); diff != "" {
			t.Fatalf("findings (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsSaidOfOneRosterMustAgree(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		bodies := list{id: "r1", made: noon, people: some(20000, 20), size: 10}.bodies()
		w.deliver("part-1", bodies[0])
		for what, body := range map[string]string{
			"another total":                   strings.Replace(bodies[1], `"total":20`, `"total":21`, 1),
			"another number of parts":         strings.Replace(bodies[1], `"parts":2`, `"parts":3`, 1),
			"other records in the same part":  strings.Replace(bodies[0], "Engineer", "Manager", 1),
			"other records in a known part 2": strings.Replace(strings.Replace(bodies[1], `"part":2`, `"part":1`, 1), "20010", "20000", 1),
		} {
			answer := w.post("msg-"+strings.ReplaceAll(what, " ", "-"), body)
			if answer.status != http.StatusAccepted || !strings.HasPrefix(answer.held(), "roster: ") {
				t.Errorf("%s was answered %d %s, want 202 held", what, answer.status, answer.text)
			}
			_, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: answer.Delivery})
			if fault.KindOf(err) != fault.Refused {
				t.Errorf("%s is replayed: %v", what, err)
			}
		}
		w.judge()
		if r := w.roster("r1"); r.GetPartsIn() != 1 || r.GetJudgedAt() != nil || w.told() != 0 {
			t.Errorf("the roster is shown as %v", r)
		}
		w.deliver("part-2", bodies[1])
		w.judge()
		if r := w.roster("r1"); r.GetChanged() != 20 {
			t.Errorf("the roster is shown as %v", r)
		}
		// A total that does not come is no contradiction, and no roster.
		w.pass(time.Hour)
		w.give(list{id: "r2", made: w.clock(), people: some(20000, 20)})
		short := strings.Replace(list{id: "r3", made: w.clock(), people: some(20000, 20)}.bodies()[0], `"total":20`, `"total":21`, 1)
		w.deliver("short", short)
		w.judge()
		if r := w.roster("r3"); r.GetHeld() != "total: 20 records came, 21 were announced" {
			t.Errorf("a roster of fewer records than announced is shown as %v", r)
		}
	})
}

func TestWhatAProcessBeganAnotherEnds(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		l := list{id: "r1", made: noon, people: some(20000, 50), size: 10}
		for i, body := range l.bodies() {
			w.deliver(fmt.Sprint("part-", i), body)
		}
		for parts := range 4 { // dies after the verdict, then after each of three parts
			if err := w.svc.BeginRoster(t.Context(), "acme-hr", "r1", parts); err != nil {
				t.Fatal(err)
			}
			if r := w.roster("r1"); r.GetJudgedAt() == nil || r.GetTakenAt() != nil || int(r.GetChanged()) != 10*parts || w.told() != 10*parts {
				t.Fatalf("after %d parts the roster is shown as %v, with %d events", parts, r, w.told())
			}
			w.restart(config(t))
		}
		w.judge()
		if r := w.roster("r1"); r.GetTakenAt() == nil || r.GetChanged() != 50 || w.told() != 50 || w.count(`SELECT count(*) FROM facts`) != 50 {
			t.Errorf("the roster is shown as %v, with %d events", r, w.told())
		}
	})
}

func TestReplicasThatJudgeAtOnceTakeARosterInOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		first := w.svc
		w.restart(config(t))
		l := list{id: "r1", made: noon, people: some(20000, 200), size: 10}
		bodies := l.bodies()
		var all sync.WaitGroup
		for replica := range 2 {
			all.Go(func() {
				for n := range bodies {
					if replica == 1 {
						n = len(bodies) - 1 - n
					}
					w.deliver(fmt.Sprint("part-", n), bodies[n])
				}
			})
		}
		all.Wait()
		for _, svc := range []*ingest.Service{first, w.svc, first, w.svc} {
			all.Go(func() {
				if err := svc.JudgeRosters(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.judge()
		r := w.roster("r1")
		if r.GetTakenAt() == nil || r.GetChanged() != 200 || w.told() != 200 || w.count(`SELECT count(*) FROM facts`) != 200 {
			t.Errorf("the roster is shown as %v, with %d events", r, w.told())
		}
	})
}

func TestAJudgeThatIsLateDecidesNothing(t *testing.T) {
	t.Parallel()
	people := some(20000, 20)
	// late has another replica judge half a roster, which is held, and something more happen, while it judges the same itself:
	// where it asks for the time, first before it reads the roster, then before it decides.
	late := func(t *testing.T, w *world, asks int, then func()) {
		t.Helper()
		w.give(list{id: "r1", made: w.clock(), people: people})
		w.pass(time.Hour)
		for n, body := range (list{id: "r2", made: w.clock(), people: people[:10], size: 5}).bodies() {
			w.deliver(fmt.Sprint("half-", n), body)
		}
		asked := 0
		svc := w.replica(config(t), prometheus.NewRegistry(), func() time.Time {
			if asked++; asked == asks {
				w.judge()
				if r := w.roster("r2"); r.GetHeld() == "" {
					t.Errorf("half a roster is shown as %v", r)
				}
				then()
			}
			return w.clock()
		})
		if err := svc.JudgeRosters(t.Context()); err != nil {
			t.Fatal(err)
		}
		if asked < asks {
			t.Fatal("the other replica was not late: the test shows nothing")
		}
	}
	for when, asks := range map[string]int{"before it reads": 1, "before it decides": 2} {
		t.Run("accepted "+when, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				late(t, w, asks, func() {
					if _, err := w.svc.AcceptRoster(w.operator(), &peoplev1.AcceptRosterRequest{Source: "acme-hr", Id: "r2"}); err != nil {
						t.Error(err)
					}
				})
				r := w.roster("r2")
				if r.GetTakenAt() == nil || r.GetAcceptedBy() != "operator:ada" || r.GetAbsent() != 10 || len(w.absent()) != 10 {
					t.Errorf("10 of 20 are on a roster that was accepted, which is shown as %v, and %d are absent", r, len(w.absent()))
				}
			})
		})
		t.Run("superseded "+when, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				late(t, w, asks, func() {
					w.pass(time.Hour)
					w.give(list{id: "r3", made: w.clock(), people: people})
				})
				if r := w.roster("r2"); !r.GetSuperseded() || r.GetTakenAt() != nil || len(w.absent()) != 0 {
					t.Errorf("a roster that is superseded is shown as %v", r)
				}
				if got := w.count(`SELECT count(*) FROM roster_people WHERE roster = 'r2'`); got != 0 {
					t.Errorf("%d people of a roster that is superseded are kept", got)
				}
			})
		})
	}
}
