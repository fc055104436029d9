// Package brake bounds how many people can lose access, or be given something privileged, before somebody looks: a feed that
// sends nobody, a model that matches nobody any more, or everybody, or a connector that misreads everybody does harm to a
// few and not to all.
//
// It is pure: a verdict follows from the limits, what was released in the windows before, and what is to be released
// now. It promises that what it releases without corroboration stays within every limit, that inside the limits nothing
// is held, that a person is released or held whole, and that what is corroborated is never held.
package brake

import (
	"fmt"
	"slices"
)

// Limits of the windows. A wider window never allows fewer than the hour does: in a small company a tenth of the people
// may be nobody.
type Limits struct {
	PerHour   Limit // people, in any sixty minutes
	PerDay    Limit // people, in any 24 hours
	PerAppDay Limit // people of one application, in any 24 hours

	PrivilegedPerDay Limit // people who are given something privileged, in any 24 hours: a limit of its own
}

// Population is how many there are to lose access: those who have it and, so that a window does not tighten as it fills,
// those who lost it in the last 24 hours.
type Population struct {
	People int            // who should have any access
	Apps   map[string]int // who should have an account, by application
}

// Spent is how many distinct people lost access, or were given something privileged, without corroboration in the windows
// before now.
type Spent struct {
	Hour int
	Day  int
	Apps map[string]int // by application, in the last 24 hours

	Privileged int // in the last 24 hours
}

// Corroboration is why a removal is believed whatever its company.
type Corroboration uint8

// The reasons. What none of them supports counts in the windows.
const (
	Uncorroborated Corroboration = iota
	Ordered                      // by an operator
	Announced                    // the end date was known for 24 hours
	Agreed                       // two sources say so
	Approved                     // two people released exactly this
)

// Change is what one person is to lose now, or to be given that is privileged.
type Change struct {
	Person        string
	Loses         bool
	Apps          []string // in which something is taken away and the person is not in the day's count yet, each once
	Cause         Cause
	Corroboration Corroboration
	Counted       Window // Hour, Day: in that count the person is already, and in every wider one; losing more costs nothing there
	Privileged    bool   // something privileged is given, and the person is not in the day's count of that yet
}

// Window names a limit.
type Window uint8

// The windows.
const (
	NoWindow Window = iota
	Hour
	Day
	AppDay
	PrivilegedDay
)

// String is the window's key in the configuration file.
func (w Window) String() string {
	return [...]string{"", "per_hour", "per_day", "per_app_day", "privileged_per_day"}[w]
}

// Verdict on one change.
type Verdict struct {
	Held    Window // whose limit it would exceed; NoWindow: released
	App     string // of AppDay
	Limit   int    // as it stands for the population of now
	Already int    // how many people had been released in that window
}

// String tells why something is held: "per_hour: 50 have lost access already, and 50 may".
func (v Verdict) String() string {
	if v.Released() {
		return ""
	}
	if v.Held == PrivilegedDay {
		return fmt.Sprintf("%s: %d were given something privileged already, and %d may be", v.Held, v.Already, v.Limit)
	}
	where := ""
	if v.App != "" {
		where = " in " + v.App
	}
	return fmt.Sprintf("%s: %d have lost access%s already, and %d may", v.Held, v.Already, where, v.Limit)
}

// Released says that the change may be carried out.
func (v Verdict) Released() bool { return v.Held == NoWindow }

// Judge gives a verdict on each change, in their order: each released one is spent before the next is judged. spent is not
// changed.
func Judge(limits Limits, population Population, spent Spent, changes []Change) []Verdict {
	j := judge{limits: limits, population: population, spent: spent}
	j.spent.Apps = make(map[string]int, len(spent.Apps))
	for app, n := range spent.Apps {
		j.spent.Apps[app] = n
	}
	verdicts := make([]Verdict, len(changes))
	for i, c := range changes {
		if c.Corroboration != Uncorroborated {
			continue
		}
		if verdicts[i] = j.verdict(c); verdicts[i].Released() {
			j.spend(c)
		}
	}
	return verdicts
}

type judge struct {
	limits     Limits
	population Population
	spent      Spent
}

func (j *judge) verdict(c Change) Verdict {
	if c.Loses {
		if v := j.loss(c); !v.Released() {
			return v
		}
	}
	if !c.Privileged {
		return Verdict{}
	}
	people := max(j.population.People, j.spent.Privileged+1) // the first people there are may all be new
	if limit := j.limits.PrivilegedPerDay.Of(people); j.spent.Privileged >= limit {
		return Verdict{Held: PrivilegedDay, Limit: limit, Already: j.spent.Privileged}
	}
	return Verdict{}
}

func (j *judge) loss(c Change) Verdict {
	hour := j.limits.PerHour.Of(j.population.People)
	if c.Counted != Hour && j.spent.Hour >= hour {
		return Verdict{Held: Hour, Limit: hour, Already: j.spent.Hour}
	}
	if day := max(hour, j.limits.PerDay.Of(j.population.People)); c.Counted == NoWindow && j.spent.Day >= day {
		return Verdict{Held: Day, Limit: day, Already: j.spent.Day}
	}
	for _, app := range slices.Sorted(slices.Values(c.Apps)) {
		limit := max(hour, j.limits.PerAppDay.Of(j.population.Apps[app]))
		if already := j.spent.Apps[app]; already >= limit {
			return Verdict{Held: AppDay, App: app, Limit: limit, Already: already}
		}
	}
	return Verdict{}
}

func (j *judge) spend(c Change) {
	if c.Loses && c.Counted != Hour {
		j.spent.Hour++
	}
	if c.Loses && c.Counted == NoWindow {
		j.spent.Day++
	}
	for _, app := range c.Apps {
		j.spent.Apps[app]++
	}
	if c.Privileged {
		j.spent.Privileged++
	}
}
