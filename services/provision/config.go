package provision

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/tenurehq/tenure/services/provision/internal/worker"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Config is the operator's part.
type Config struct {
	Applications []Application
	Timing       Timing // zero fields: the defaults
	// Unconfigured are applications that people may still have accounts in and that nobody works for any more.
	Unconfigured []string
}

// Application is one application that this process works for.
type Application struct {
	Name        string
	Connector   string // its kind, to be shown
	Environment string
	Owner       string // who gets the stuck items

	Enforce   string // observe (default), add, own, full
	Adopt     string // never (default), correlated
	Correlate string // attribute of `account` whose value is the correlation key; needed to adopt
	Rehired   string // what who comes back gets: old (default), their account of before; new, another one

	WhenUnwanted WhenUnwanted
	Limits       Limits
	LookAgain    time.Duration // after which what is settled is read again; 0: 24 h
}

// WhenUnwanted is what becomes of an account that nobody should have any more.
type WhenUnwanted struct {
	Disable     string        // now (default): disabled, sessions killed, credentials revoked
	DeleteAfter time.Duration // deleted this long after it was seen disabled; 0: never
}

// Limits bound the calls to an application; the connector's own limits hold as well.
type Limits struct {
	Concurrency int           // people worked on at a time; 0: 16
	PerMinute   int           // calls; 0: no limit
	Timeout     time.Duration // of one call; 0: 8 s
}

// Timing are the clocks of all workers.
type Timing struct {
	Skew        time.Duration // how far the clocks of worker and connector may differ; default 2 s
	Poll        time.Duration // how often to look for due targets that nobody announced; default 1 s
	Repair      time.Duration // how often to compare generations with policy; default 5 min
	Inspect     time.Duration // how often an application that works is asked whether it is well; default 1 h
	RetryMin    time.Duration // before the second attempt; default 1 s
	RetryMax    time.Duration // between attempts; default 5 min
	Slow        time.Duration // between attempts at what is stuck; default 1 h
	Attempts    int           // after which a target is stuck; default 8
	Escalate    time.Duration // after which urgent work that nobody could do is stuck, too; default 15 min
	Pending     time.Duration // how long an operation that the application accepted is asked after; default 1 h
	PollEvery   time.Duration // how often; default 2 s
	CreateGrace time.Duration // how long an account that was asked for may stay invisible; default 1 min
}

const (
	defaultConcurrency = 16
	defaultTimeout     = 8 * time.Second
)

var (
	applicationName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	enforceLevels   = map[string]plan.Enforce{"": plan.Observe, "observe": plan.Observe, "add": plan.Add, "own": plan.Own, "full": plan.Full}
)

// Validate says what is wrong. Errors about an application begin with its key.
func (c Config) Validate() error {
	seen := map[string]bool{}
	for i, a := range c.Applications {
		if err := a.validate(); err != nil {
			return fmt.Errorf("applications[%d].%w", i, err)
		}
		if seen[a.Name] {
			return fmt.Errorf("applications[%d].name: %s is there already", i, a.Name)
		}
		seen[a.Name] = true
	}
	return nil
}

func (a Application) validate() error {
	if !applicationName.MatchString(a.Name) {
		return fmt.Errorf("name: %q is not one of [a-z0-9-]{1,40}", a.Name)
	}
	if _, ok := enforceLevels[a.Enforce]; !ok {
		return fmt.Errorf("enforce: %q is none of observe, add, own, full", a.Enforce)
	}
	switch a.Adopt {
	case "", "never":
	case "correlated":
		if a.Correlate == "" {
			return errors.New("adopt: correlated needs correlate to name an attribute")
		}
	default:
		return fmt.Errorf("adopt: %q is none of never, correlated", a.Adopt)
	}
	if r := a.Rehired; r != "" && r != "old" && r != "new" {
		return fmt.Errorf("when_rehired: %q is none of old, new", r)
	}
	if d := a.WhenUnwanted.Disable; d != "" && d != "now" {
		return fmt.Errorf("when_unwanted.disable: %q is not now", d)
	}
	if a.WhenUnwanted.DeleteAfter < 0 {
		return errors.New("when_unwanted.delete_after: must not be negative")
	}
	if a.LookAgain < 0 {
		return errors.New("look_again: must not be negative")
	}
	if a.Limits.Concurrency < 0 || a.Limits.PerMinute < 0 || a.Limits.Timeout < 0 {
		return errors.New("limits: must not be negative")
	}
	return nil
}

// worker is the configuration of the application's worker.
func (a Application) worker(t Timing) worker.Config {
	request := orDefault(a.Limits.Timeout, defaultTimeout)
	skew := orDefault(t.Skew, 2*time.Second)
	return worker.Config{
		Application: a.Name, Correlate: a.Correlate,
		Settings: plan.Settings{
			Enforce: enforceLevels[a.Enforce], Adopt: a.Adopt == "correlated", Renew: a.Rehired == "new",
			DeleteAfter: a.WhenUnwanted.DeleteAfter, CreateGrace: orDefault(t.CreateGrace, time.Minute),
		},
		Concurrency: orDefault(a.Limits.Concurrency, defaultConcurrency), PerMinute: a.Limits.PerMinute,
		Timing: worker.Timing{
			Request: request, Skew: skew,
			Lease:    3*request + 3*skew, // a read and a call may take their whole time, and a lease outlives the call
			Poll:     orDefault(t.Poll, time.Second),
			Repair:   orDefault(t.Repair, 5*time.Minute),
			Inspect:  orDefault(t.Inspect, time.Hour),
			Again:    orDefault(a.LookAgain, 24*time.Hour),
			RetryMin: orDefault(t.RetryMin, time.Second), RetryMax: orDefault(t.RetryMax, 5*time.Minute),
			Slow: orDefault(t.Slow, time.Hour), Attempts: orDefault(t.Attempts, 8),
			Escalate: orDefault(t.Escalate, 15*time.Minute),
			Pending:  orDefault(t.Pending, time.Hour), PollEvery: orDefault(t.PollEvery, 2*time.Second),
		},
	}
}

func orDefault[T int | time.Duration](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}
