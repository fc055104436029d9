package brake_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/policy/brake"
)

func limit(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string,
) brake.Limit {
	t.Helper()
	l, err := brake.ParseLimit(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l
}

func TestALimitIsForThePopulationOfNow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text             string
		population, want int
	}{
		{"50", 3, 50},
		{"10%", 0, 0},
		{"10%", 19, 1},
		{"10%", 20, 2},
		{"12.5%", 80, 10},
		{"max(5,min(50,5%))", 10, 5},
		{"max(5,min(50,5%))", 200, 10},
		{"max(5,min(50,5%))", 100000, 50},
		{" max( 5 , min(50 ,5 %) ) ", 200, 10},
		{"MIN(7,9,3)", 1, 3},
		{"0", 1000, 0},
		{"7%", 100, 7}, // which is 7.000000000000001 in floating point
	} {
		if got := limit(t, c.text).Of(c.population); got != c.want {
			t.Errorf("%s of %d is %d, want %d", c.text, c.population, got, c.want)
		}
	}
}

func TestWhatIsNoLimitIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "five", "-1", "5.5", "101%", "max()", "max(5", "max(5,)", "max(5,3))", "5 3", "min 5", "%", "1e3", "max(5;3)", "1000000001",
		"max(max(max(max(max(max(max(max(max(1)))))))))",
	} {
		if l, err := brake.ParseLimit(text); err == nil {
			t.Errorf("%q is taken for %d of 100", text, l.Of(100))
		}
	}
}

func leavers(n int) []brake.Change {
	all := make([]brake.Change, n)
	for i := range all {
		all[i] = brake.Change{Person: fmt.Sprint(i), Loses: true, Apps: []string{"directory"}}
	}
	return all
}

func released(verdicts []brake.Verdict) int {
	n := 0
	for _, v := range verdicts {
		if v.Released() {
			n++
		}
	}
	return n
}

func TestOfEverybodyOnlyTheLimitIsReleased(t *testing.T) {
	t.Parallel()
	population := brake.Population{People: 1000, Apps: map[string]int{"directory": 1000}}
	verdicts := brake.Judge(brake.Defaults(), population, brake.Spent{}, leavers(1000))
	if got := released(verdicts); got != 50 {
		t.Errorf("%d of 1,000 are released, want 50", got)
	}
	if diff := cmp.Diff(brake.Verdict{Held: brake.Hour, Limit: 50, Already: 50}, verdicts[999]); diff != "" {
		t.Errorf("the last one (-want +got):\n%s", diff)
	}
}

func TestADripIsHeldByTheDay(t *testing.T) {
	t.Parallel()
	population := brake.Population{People: 400, Apps: map[string]int{"directory": 400}}
	var at []time.Duration        // of the releases
	for minute := range 24 * 60 { // one a minute for a day
		now := time.Duration(minute) * time.Minute
		spent := brake.Spent{Day: len(at), Apps: map[string]int{"directory": len(at)}}
		for _, then := range at {
			if now-then < time.Hour {
				spent.Hour++
			}
		}
		if brake.Judge(brake.Defaults(), population, spent, leavers(1))[0].Released() {
			at = append(at, now)
		}
	}
	if len(at) != 40 {
		t.Errorf("of one a minute %d are released in a day, want 40: a tenth of 400", len(at))
	}
}

func TestASmallCompanyCanLetPeopleGo(t *testing.T) {
	t.Parallel()
	population := brake.Population{People: 12, Apps: map[string]int{"directory": 12}}
	if got := released(brake.Judge(brake.Defaults(), population, brake.Spent{}, leavers(12))); got != 5 {
		t.Errorf("of a company of 12 people %d are released, want the 5 of the hour", got)
	}
}

func TestWhatIsCorroboratedIsNeverHeldAndCostsNothing(t *testing.T) {
	t.Parallel()
	population := brake.Population{People: 100, Apps: map[string]int{"directory": 100}}
	removals := leavers(60)
	for i := range removals[:50] {
		removals[i].Corroboration = brake.Corroboration(1 + i%4)
	}
	if got := released(brake.Judge(brake.Defaults(), population, brake.Spent{}, removals)); got != 55 {
		t.Errorf("%d are released, want the 50 corroborated ones and 5", got)
	}
}

func TestOneApplicationHasALimitOfItsOwn(t *testing.T) {
	t.Parallel()
	limits := brake.Defaults()
	limits.PerHour = limit(t, "3")
	population := brake.Population{People: 1000, Apps: map[string]int{"payroll": 20, "directory": 1000}}
	spent := brake.Spent{Hour: 1, Day: 4, Apps: map[string]int{"payroll": 4}}
	removal := brake.Change{Person: "1", Loses: true, Apps: []string{"directory", "payroll"}}
	want := brake.Verdict{Held: brake.AppDay, App: "payroll", Limit: 4, Already: 4}
	if diff := cmp.Diff(want, brake.Judge(limits, population, spent, []brake.Change{removal})[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	removal.Apps = []string{"directory"}
	if v := brake.Judge(limits, population, spent, []brake.Change{removal})[0]; !v.Released() {
		t.Errorf("what takes nothing away in payroll is held: %+v", v)
	}
}

func TestWhatIsPrivilegedHasALimitOfItsOwn(t *testing.T) {
	t.Parallel()
	limits := brake.Defaults()
	limits.PrivilegedPerDay = limit(t, "max(2,1%)")
	given := func(n int) []brake.Change {
		all := make([]brake.Change, n)
		for i := range all {
			all[i] = brake.Change{Person: fmt.Sprint(i), Privileged: true}
		}
		return all
	}
	verdicts := brake.Judge(limits, brake.Population{People: 400}, brake.Spent{Hour: 50, Day: 400, Privileged: 1}, given(9))
	if got := released(verdicts); got != 3 {
		t.Errorf("9 of 400 people are to be given something privileged, and %d are, want 3: a hundredth, and one was", got)
	}
	if want := "privileged_per_day: 4 were given something privileged already, and 4 may be"; verdicts[8].String() != want {
		t.Errorf("said of the last one: %q, want %q", verdicts[8], want)
	}
	limits.PrivilegedPerDay = limit(t, "100%")
	if got := released(brake.Judge(limits, brake.Population{}, brake.Spent{}, given(9))); got != 9 {
		t.Errorf("of the first 9 people there are %d are released without a limit", got)
	}
}

func TestReleasedStaysWithinEveryLimitAndNothingIsHeldInside(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limits := brake.Limits{
			PerHour:   limit(t, rapid.SampledFrom([]string{"0", "3", "5%", "max(2,min(6,20%))"}).Draw(t, "hour")),
			PerDay:    limit(t, rapid.SampledFrom([]string{"0", "8", "10%", "100%"}).Draw(t, "day")),
			PerAppDay: limit(t, rapid.SampledFrom([]string{"0", "4", "20%", "100%"}).Draw(t, "app")),

			PrivilegedPerDay: limit(t, rapid.SampledFrom([]string{"0", "2", "10%", "100%"}).Draw(t, "privileged")),
		}
		apps := []string{"a", "b", "c"}
		population := brake.Population{People: rapid.IntRange(0, 60).Draw(t, "people"), Apps: map[string]int{}}
		spent := brake.Spent{Hour: rapid.IntRange(0, 4).Draw(t, "spent"), Apps: map[string]int{}}
		spent.Privileged = rapid.IntRange(0, 3).Draw(t, "privileged before")
		spent.Day = spent.Hour + rapid.IntRange(0, 4).Draw(t, "spent before")
		for _, app := range apps {
			population.Apps[app] = rapid.IntRange(0, population.People).Draw(t, app)
			spent.Apps[app] = rapid.IntRange(0, spent.Day).Draw(t, "spent in "+app)
		}
		removals := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) brake.Change {
			c := brake.Change{
				Loses:         rapid.SampledFrom([]bool{true, true, false}).Draw(t, "loses"),
				Privileged:    rapid.SampledFrom([]bool{false, false, true}).Draw(t, "privileged"),
				Apps:          rapid.SliceOfNDistinct(rapid.SampledFrom(apps), 0, 3, rapid.ID[string]).Draw(t, "apps"),
				Corroboration: rapid.SampledFrom([]brake.Corroboration{0, 0, 0, brake.Ordered, brake.Agreed}).Draw(t, "corroboration"),
				Counted:       rapid.SampledFrom([]brake.Window{0, 0, 0, brake.Day, brake.Hour}).Draw(t, "counted"),
			}
			if !c.Loses {
				c.Apps, c.Counted = nil, brake.NoWindow
			}
			return c
		}), 0, 40).Draw(t, "removals")

		hour := limits.PerHour.Of(population.People)
		day := max(hour, limits.PerDay.Of(population.People))
		for i, v := range brake.Judge(limits, population, spent, removals) {
			r := removals[i]
			counts := r.Corroboration == brake.Uncorroborated
			fits := !r.Loses || (r.Counted == brake.Hour || spent.Hour < hour) && (r.Counted != brake.NoWindow || spent.Day < day)
			for _, app := range r.Apps {
				fits = fits && spent.Apps[app] < max(hour, limits.PerAppDay.Of(population.Apps[app]))
			}
			fits = fits && (!r.Privileged || spent.Privileged < limits.PrivilegedPerDay.Of(max(population.People, spent.Privileged+1)))
			if want := !counts || fits; v.Released() != want {
				t.Fatalf("removal %d %+v: released %v, want %v: spent %+v", i, r, v.Released(), want, spent)
			}
			if !counts || !v.Released() {
				continue
			}
			if r.Privileged {
				spent.Privileged++
			}
			if r.Loses && r.Counted != brake.Hour {
				spent.Hour++
			}
			if r.Loses && r.Counted == brake.NoWindow {
				spent.Day++
			}
			for _, app := range r.Apps {
				spent.Apps[app]++
			}
		}
	})
}

func TestACauseIsToldInWords(t *testing.T) {
	t.Parallel()
	var held []brake.Change
	for range 412 {
		held = append(held, brake.Change{Cause: brake.Cause{Kind: "mover", Field: "department", From: "d005", Source: "hr", Delivery: "88"}})
	}
	for n := range 2 {
		held = append(held, brake.Change{Cause: brake.Cause{Kind: "leaver", Source: "hr", Delivery: fmt.Sprint(100 + n)}})
	}
	held = append(held, brake.Change{Cause: brake.Cause{Kind: "model"}})
	var told []string
	for _, c := range brake.Clusters(held) {
		told = append(told, c.String())
	}
	want := []string{"412 of 415: department d005 → empty, delivery 88", "2 of 415: leaver, source hr", "1 of 415: model"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
