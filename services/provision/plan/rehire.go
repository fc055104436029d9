package plan

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxName is how long the name of an account that made way may be, in bytes: what every application takes that takes
// the name it had.
const maxName = 63

// marker is what the account carries, or what is written into one that carries none of the person's.
func (in Input) marker(a *Account) string {
	if a != nil && a.marks(in.Desired.Person) {
		return a.Marker
	}
	if in.Settings.Renew {
		return MarkerOf(in.Desired.Person, in.Desired.Run)
	}
	return Marker(in.Desired.Person)
}

// IsFormer says that an account was the person's in an earlier run of employment and must not be used again. The record
// knows for which run it was used last; without one the marker says for which it was made.
func IsFormer(d Desired, r Record, s Settings, a Account) bool {
	if !s.Renew || d.State != Enabled {
		return false
	}
	linked := a.ID != "" && a.ID == r.AccountID
	run, ours := runOf(a.Marker, d.Person)
	switch {
	case linked && !foreignMarker(a, d.Person):
		run = max(run, r.Run)
	case !ours:
		return false
	}
	return run < d.Run
}

// formers are the accounts that were found and are of earlier runs of employment.
func formers(in Input) []Account {
	all := distinct(in.Found.Linked, in.Found.Marked, in.Found.Correlated, in.Found.Named)
	return slices.DeleteFunc(all, func(a Account) bool { return !IsFormer(in.Desired, in.Record, in.Settings, a) })
}

// without is what was found but for some accounts.
func (f Found) without(accounts []Account) Found {
	if len(accounts) == 0 {
		return f
	}
	rest := func(list []Account) []Account {
		return slices.DeleteFunc(slices.Clone(list), func(a Account) bool {
			return slices.ContainsFunc(accounts, func(b Account) bool { return a.ID == b.ID })
		})
	}
	return Found{Linked: rest(f.Linked), Marked: rest(f.Marked), Correlated: rest(f.Correlated), Named: rest(f.Named)}
}

// retire plans for an account of an earlier run of employment to make way for a new one. It reports whether it has: it
// was seen to be unusable and its name is free.
func (p *planner) retire(a *Account) bool {
	if a.Status != StatusDisabled && a.ID != p.in.Record.AccountID {
		// Without the record nobody knows who uses it: perhaps the person, since the setting was another one.
		p.stuck(Disable, "", Problem{Code: "PRECONDITION", Reason: ReasonFormer, Account: a.ID})
		return false
	}
	notes := len(p.Notes)
	p.disable(a)
	p.killSessions(a)
	p.revokeCredentials(a)
	for _, s := range p.unwanted(a, nil) {
		p.take(s)
	}
	if len(p.Steps) > 0 || a.Status != StatusDisabled || slices.ContainsFunc(p.Notes[notes:], func(n Note) bool { return n.Blocks }) {
		return false
	}
	if p.discard(a) {
		return false
	}
	name := p.in.Can.Name
	if want := p.in.Desired.Attributes[name]; name == "" || want == "" || !equalFold(a.Name, want) {
		return true
	}
	if _, ok := p.in.Can.Ops[Update]; !ok || p.in.Can.Attributes[name].ReadOnly {
		p.stuck(Create, "", Problem{Code: "ALREADY_EXISTS", Reason: ReasonFormer, Account: a.ID})
		return false
	}
	p.need(Step{Op: Update, Attributes: map[string]string{name: formerName(a.Name, p.runOf(a))}}, Own)
	return false
}

// discard plans the deletion of an account that made way, where the operator lets accounts be deleted at all: its time
// would not come once nobody looks at it any more.
func (p *planner) discard(a *Account) bool {
	level := Own
	if p.in.Record.Made != Created || p.in.Record.AccountID != a.ID {
		level = Full
	}
	s := p.in.Settings
	return s.DeleteAfter > 0 && s.Enforce >= level && p.supports(Delete) && p.permitted(Step{Op: Delete}) &&
		p.need(Step{Op: Delete}, level)
}

func (p *planner) runOf(a *Account) uint64 {
	run, _ := runOf(a.Marker, p.in.Desired.Person)
	if a.ID == p.in.Record.AccountID {
		run = max(run, p.in.Record.Run)
	}
	return run
}

// formerName is the name of an account that made way: ann becomes ann-former1, and ann@acme.example
// ann-former1@acme.example.
func formerName(name string, run uint64) string {
	local, domain := name, ""
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		local, domain = name[:i], name[i:]
	}
	suffix := "-former" + strconv.FormatUint(run, 10)
	for len(local)+len(suffix)+len(domain) > maxName && utf8.RuneCountInString(local) > 1 {
		_, size := utf8.DecodeLastRuneInString(local)
		local = local[:len(local)-size]
	}
	return local + suffix + domain
}
