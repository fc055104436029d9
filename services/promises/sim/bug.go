package sim

import (
	"time"

	"github.com/tenurehq/tenure/services/ingest/timeline"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Bug is a way in which Tenure could be wrong. It is made in the model, or around a pure core; never in the services.
type Bug uint8

// The bugs.
const (
	NoBug Bug = iota
	AnswerEarly
	IDReuse
	TimersInMemory
	ArrivalCounts
	RelayForgets
	ChunkChanges
	AckEarly
	NaiveCursor
	NoRepair
	NoCAS
	VersionLess
	LeaverKeepsStanding
	BrakePerBatch
	BrakeOutside
	ActsOnMessage
	NoLease
	LeaseShort
	FenceMissing
	CallFirst
	NotAfterIgnored
	BlindRetry
	UnknownIsNothing
	NoLookup
	NoReadBack
	NoQuiet
	LateRemovalForgotten
	LateIsForeign
	ClosedByOther
	RevokedOnWord
	ReleaseNotRequired
	EnabledIsEnough
	OutcomeForgotten
	CutIgnored
	CutForgotten
	NewIsSettled
	LiftForgotten
	SinkInMemory
	HolesSkipped
	NoPull
	numberOfBugs = iota
)

var bugs = [numberOfBugs]string{
	NoBug:                "none",
	AnswerEarly:          "the source is answered before its delivery is committed",
	IDReuse:              "a delivery's id with another body is accepted",
	TimersInMemory:       "due times are in memory",
	ArrivalCounts:        "a record holds from its arrival on",
	RelayForgets:         "the relay forgets what is not sent when it dies",
	ChunkChanges:         "a chunk that is published again has other members",
	AckEarly:             "a message is acknowledged before what it led to is committed",
	NaiveCursor:          "policy compares only what changed since it compared last",
	NoRepair:             "nobody compares states",
	NoCAS:                "policy saves without compare-and-set (P0)",
	VersionLess:          "policy's guard says < instead of <=",
	LeaverKeepsStanding:  "a leaver keeps what they had",
	BrakePerBatch:        "the brake counts a batch and not the window",
	BrakeOutside:         "the brake is asked outside the transaction",
	ActsOnMessage:        "a worker carries out what the message says",
	NoLease:              "the lease on a target is dropped early",
	LeaseShort:           "the lease is shorter than the request, and intents of before are not taken up",
	FenceMissing:         "an intent is committed whoever holds the target",
	CallFirst:            "the call is made before its intent is committed",
	NotAfterIgnored:      "a connector does not look at not_after",
	BlindRetry:           "an unknown call is repeated without looking",
	UnknownIsNothing:     "an unknown call is taken for one that did nothing",
	NoLookup:             "an account is created without looking for one",
	NoReadBack:           "what is called done is not read back",
	NoQuiet:              "a call that may come late is not waited for",
	LateRemovalForgotten: "a removal that may come late is not waited for",
	LateIsForeign:        "what a call gave that came late counts as given by others",
	ClosedByOther:        "who has lost the target closes its intents",
	RevokedOnWord:        "what is called revoked and still there counts as given by others",
	ReleaseNotRequired:   "a step that takes away needs no release",
	EnabledIsEnough:      "entitlements of who is enabled are not taken away",
	OutcomeForgotten:     "an intent gets no outcome",
	CutIgnored:           "a worker waits for policy about somebody who is cut",
	NewIsSettled:         "what was settled counts for an account that is new",
	CutForgotten:         "a decision from before a cut enables again when it is lifted",
	LiftForgotten:        "what a cut disabled stays so when policy hears of the lift first",
	SinkInMemory:         "audit acknowledges what is in memory only",
	HolesSkipped:         "audit skips holes",
	NoPull:               "audit does not pull what it lacks",
}

func (b Bug) String() string { return bugs[b] }

// Promise that the bug breaks, by its number in docs/promises.md.
func (b Bug) Promise() string {
	switch b {
	case AnswerEarly, IDReuse, TimersInMemory, ArrivalCounts:
		return "P1"
	case RelayForgets, ChunkChanges, AckEarly, NaiveCursor, NoRepair, SinkInMemory, HolesSkipped, NoPull:
		return "P2"
	case BlindRetry, UnknownIsNothing, NoLookup, NotAfterIgnored:
		return "P6"
	case CallFirst, OutcomeForgotten, FenceMissing, ClosedByOther, NoReadBack:
		return "P8"
	case BrakePerBatch, BrakeOutside, ReleaseNotRequired, LateIsForeign, RevokedOnWord:
		return "P11"
	default:
		return "P4"
	}
}

// Bugs are all that the simulator must find.
func Bugs() []Bug {
	all := make([]Bug, 0, numberOfBugs-1)
	for b := NoBug + 1; b < numberOfBugs; b++ {
		all = append(all, b)
	}
	return all
}

// cores are Tenure's pure cores.
type cores struct {
	step   func(known, said []timeline.Fact, before timeline.State, now time.Time) timeline.Decision
	decide func(decide.Rules, *model.Person, map[string]decide.Access) decide.Decision
	judge  func(brake.Limits, brake.Population, brake.Spent, []brake.Change) []brake.Verdict
	plan   func(plan.Input) plan.Plan
}

// coresWith returns the real cores, one of them wrapped in the bug.
func coresWith(bug Bug) cores {
	one := func(rules decide.Rules, p *model.Person, standing map[string]decide.Access) decide.Decision {
		return decide.Decide(rules, p, standing)
	}
	c := cores{timeline.Step, one, brake.Judge, plan.Make}
	switch bug {
	case ArrivalCounts:
		c.step = func(known, said []timeline.Fact, before timeline.State, now time.Time) timeline.Decision {
			for i := range said {
				said[i].Effective = now
			}
			return timeline.Step(known, said, before, now)
		}
	case LeaverKeepsStanding:
		c.decide = func(rules decide.Rules, p *model.Person, standing map[string]decide.Access) decide.Decision {
			d := decide.Decide(rules, p, standing)
			if p.Status == model.StatusTerminated {
				d.Access = standing
			}
			return d
		}
	case BrakePerBatch:
		c.judge = func(limits brake.Limits, people brake.Population, _ brake.Spent, changes []brake.Change) []brake.Verdict {
			return brake.Judge(limits, people, brake.Spent{}, changes)
		}
	case ReleaseNotRequired:
		c.plan = func(in plan.Input) plan.Plan {
			in.Desired.Release = "any"
			return plan.Make(in)
		}
	case CutForgotten:
		c.plan = func(in plan.Input) plan.Plan {
			in.Record.DisabledForLeaver, in.Record.Decision = false, 0
			return plan.Make(in)
		}
	case EnabledIsEnough:
		c.plan = func(in plan.Input) plan.Plan {
			p := plan.Make(in)
			if in.Desired.State != plan.Enabled {
				return p
			}
			var kept []plan.Step
			for _, s := range p.Steps {
				if s.Op != plan.Revoke {
					kept = append(kept, s)
				}
			}
			p.Steps = kept
			return p
		}
	default:
	}
	return c
}
