package race

import "fmt"

// next tells every state that can follow, with what happens.
func (d Design) next(s state, then func(what string, to state)) {
	if s.version == 1 {
		to := s
		to.version, to.lifecycle[2] = 2, deliveries
		then("HR says that the person leaves", to)
	}
	for i := range s.replicas {
		d.policy(s, i, then)
	}
	for i := range s.workers {
		d.worker(s, i, then)
	}
	for i, c := range s.wire {
		if c.generation > 0 {
			d.land(s, i, then)
		}
	}
	if s.holder > 0 && d.mayExpire(s) {
		to := s
		to.holder = 0
		then("the lease ends", to)
	}
}

// policy is what one of its replicas can do.
func (d Design) policy(s state, i int, then func(string, state)) {
	r := s.replicas[i]
	switch r.stage {
	case idle:
		for version := uint8(1); version <= s.version; version++ {
			if s.lifecycle[version] == 0 {
				continue
			}
			to := s
			to.lifecycle[version]--
			to.replicas[i] = replica{ready, s.version} // the message wakes; what counts is what ingest says now
			then(fmt.Sprintf("policy %d hears of version %d and reads version %d", i+1, version, s.version), to)
		}
	case ready:
		to := s
		if !d.Unguarded && s.generation > 0 && r.version < s.decided[s.generation] {
			to.replicas[i].version = s.version // no row was updated: start again
			then(fmt.Sprintf("policy %d finds a newer decision and reads again", i+1), to)
			return
		}
		to.replicas[i] = replica{}
		if s.generation > 0 && s.decided[s.generation] == r.version {
			then(fmt.Sprintf("policy %d decides the same", i+1), to)
			return
		}
		to.generation++
		to.decided[to.generation], to.access[to.generation] = r.version, deliveries
		then(fmt.Sprintf("policy %d decides generation %d from version %d", i+1, to.generation, r.version), to)
	case begun, called, landed:
	}
}

// worker is what one of them can do.
func (d Design) worker(s state, i int, then func(string, state)) {
	w := s.workers[i]
	who := fmt.Sprintf("worker %d ", i+1)
	switch w.stage {
	case idle:
		if s.wire[i].generation > 0 { // of its former life: one call on the wire is enough to show what it can do
			return
		}
		for g := uint8(1); g <= s.generation; g++ {
			if s.access[g] == 0 {
				continue
			}
			to := s
			to.access[g]--
			to.workers[i] = worker{stage: begun, message: g}
			then(fmt.Sprintf("%shears of generation %d", who, g), to)
		}
		if d.Repairs && s.generation > 0 && s.enabled != s.wants(s.generation) && s.quiet() {
			to := s
			to.workers[i] = worker{stage: begun}
			then(who+"looks again and sees something else than is desired", to)
		}
	case begun:
		d.begin(s, i, then)
	case ready:
		to := s
		to.workers[i].stage, to.wire[i] = called, call{generation: w.generation}
		then(fmt.Sprintf("%scalls the application for generation %d", who, w.generation), to)
	case called:
		if s.crashes > 0 {
			to := s
			to.crashes--
			to.workers[i], to.wire[i].orphan = worker{}, true
			if w.message > 0 {
				to.access[w.message]++ // was not acknowledged
			}
			then(who+"dies with its call on the wire", to)
		}
	case landed:
		to := s
		to.done = max(s.done, w.generation)
		if d.Repairs && s.enabled != s.wants(s.generation) {
			to.workers[i].stage = begun
			then(who+"reads back something else than is desired", to)
			return
		}
		to.workers[i] = worker{}
		if s.holder == uint8(i)+1 { //nolint:gosec // two workers
			to.holder = 0
		}
		then(who+"is done", to)
	}
}

// begin takes the lease, where there is one, and finds out what to do.
func (d Design) begin(s state, i int, then func(string, state)) {
	w, me := s.workers[i], uint8(i)+1 //nolint:gosec // two workers
	if d.Lease && s.holder != 0 && s.holder != me {
		return // somebody has it
	}
	to := s
	if d.Lease {
		to.holder = me
	}
	w.generation = w.message
	if d.Reread {
		w.generation = s.generation
	}
	w.stage = ready
	to.workers[i] = w
	if d.SkipOlder && w.generation <= s.done {
		to.workers[i], to.holder = worker{}, 0
		then(fmt.Sprintf("worker %d leaves out generation %d", i+1, w.generation), to)
		return
	}
	then(fmt.Sprintf("worker %d is to do generation %d", i+1, w.generation), to)
}

// land is the call on the i-th worker's wire reaching the application.
func (d Design) land(s state, i int, then func(string, state)) {
	c := s.wire[i]
	to := s
	to.wire[i] = call{}
	if !c.orphan {
		to.workers[i].stage = landed
	}
	what := fmt.Sprintf("the call for generation %d lands", c.generation)
	if d.Fenced && c.generation < s.fence {
		then(what+" and is refused", to)
		return
	}
	to.enabled, to.fence = s.wants(c.generation), max(s.fence, c.generation)
	then(what, to)
	if c.orphan {
		lost := s
		lost.wire[i] = call{}
		then("the call of the dead is lost", lost)
	}
}

// mayExpire tells whether the lease can end by itself now.
func (d Design) mayExpire(s state) bool {
	i := s.holder - 1
	switch {
	case d.Expires:
		return true
	case d.Pauses && s.workers[i].stage == ready: // it looked, and stands still before it calls
		return true
	}
	return s.workers[i].stage == idle && s.wire[i].generation == 0 // its holder died, and the longest request is over
}

// quiet tells whether nobody is at it: a sweep that looks while others work is one more message, which there is already.
func (s *state) quiet() bool {
	for i := range s.workers {
		if s.workers[i].stage != idle || s.wire[i].generation > 0 {
			return false
		}
	}
	return true
}
