package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

const markerPrefix = "tenure:"

// Marker is what Tenure writes into an account to say whose it is. It names the person by id, so it survives every
// change of name, address or login, and says nothing to who reads it in the application.
func Marker(person string) string { return MarkerOf(person, 1) }

// MarkerOf is the marker of an account that was made for a person's nth run of employment, where each run gets an account
// of its own.
func MarkerOf(person string, run uint64) string {
	if run <= 1 {
		return markerPrefix + person
	}
	return markerPrefix + person + "/" + strconv.FormatUint(run, 10)
}

// runOf is the run of employment that an account of the person's was made for; false: the marker does not name the person.
func runOf(marker, person string) (uint64, bool) {
	rest, ours := strings.CutPrefix(marker, markerPrefix+person)
	if !ours || rest == "" {
		return 1, ours
	}
	number, ours := strings.CutPrefix(rest, "/")
	run, err := strconv.ParseUint(number, 10, 64)
	return run, ours && err == nil
}

// Found are the accounts that were found, by the way they were found. Ways that were not tried stay empty.
type Found struct {
	Linked     []Account // by the id on record
	Marked     []Account // by the person's marker
	Correlated []Account // by the correlation key
	Named      []Account // by the name that the account would have
}

// Claim is why an account is the person's.
type Claim int

// The claims, from the surest.
const (
	Unclaimed Claim = iota
	Linked          // on record as the person's
	Marked          // carries the person's marker
	Bound           // has the name we asked for in a CREATE whose reply was lost, and was not there before
	Adopted         // found by its correlation key, and the application's settings allow to take it over
)

// find chooses the account that the plan is about. It never guesses: what fits and is not surely the person's is a
// problem when an account is wanted, and left alone when none is.
func find(in Input) (*Account, Claim, *Problem) {
	person := in.Desired.Person
	if len(in.Found.Linked) > 0 {
		return one(in.Found.Linked, Linked, person)
	}
	if len(in.Found.Marked) > 0 {
		return one(in.Found.Marked, Marked, person)
	}
	fits := distinct(in.Found.Correlated, in.Found.Named)
	if ours := slices.DeleteFunc(slices.Clone(fits), func(a Account) bool { return !a.marks(person) }); len(ours) > 0 {
		return one(ours, Marked, person) // an application that cannot search by marker
	}
	if len(fits) == 0 {
		return nil, Unclaimed, nil
	}
	if in.Record.Creating && len(in.Found.Named) == 1 && !foreignMarker(in.Found.Named[0], person) {
		return &in.Found.Named[0], Bound, nil
	}
	if in.Desired.State != Enabled {
		return nil, Unclaimed, nil // nothing of Tenure's is here, and what is here is not Tenure's to take
	}
	if in.Settings.Adopt && len(in.Found.Correlated) > 0 {
		if len(fits) > 1 {
			return nil, Unclaimed, &Problem{Code: "ALREADY_EXISTS", Reason: ReasonAmbiguous, Account: fits[0].ID}
		}
		return one(fits, Adopted, person)
	}
	return nil, Unclaimed, &Problem{Code: "ALREADY_EXISTS", Reason: ReasonNotOurs, Account: fits[0].ID}
}

func one(accounts []Account, claim Claim, person string) (*Account, Claim, *Problem) {
	if len(accounts) > 1 {
		return nil, Unclaimed, &Problem{Code: "ALREADY_EXISTS", Reason: ReasonAmbiguous, Account: accounts[0].ID}
	}
	if foreignMarker(accounts[0], person) {
		return nil, Unclaimed, &Problem{Code: "INCONSISTENT", Reason: ReasonOtherPerson, Account: accounts[0].ID}
	}
	return &accounts[0], claim, nil
}

// foreignMarker says that Tenure marked the account for somebody else.
func foreignMarker(a Account, person string) bool {
	return strings.HasPrefix(a.Marker, markerPrefix) && !a.marks(person)
}

// marks says that the account carries a marker of the person's.
func (a Account) marks(person string) bool {
	_, ours := runOf(a.Marker, person)
	return ours
}

func distinct(lists ...[]Account) []Account {
	var all []Account
	for _, list := range lists {
		for _, a := range list {
			if !slices.ContainsFunc(all, func(b Account) bool { return b.ID == a.ID }) {
				all = append(all, a)
			}
		}
	}
	return all
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func nonEmpty(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }
