package sim

import (
	"fmt"
	"time"
)

// Move is a kind of choice.
type Move uint8

// The moves.
const (
	SayOfPerson   Move = iota // a source makes a record about a person
	Post                      // it posts one of its records; the answer may be lost
	PostAgain                 // it posts a record again that was answered
	PostOther                 // it posts another body under an id that it used
	Cut                       // an operator cuts somebody
	Lift                      // or lifts the cut
	Approve                   // two people release what the brake holds
	IngestTimers              // ingest lets time pass for somebody
	RelayStep                 // a relay makes its next step
	PolicyStep                // a replica of policy does
	WorkerStep                // a worker does
	AuditStep                 // audit does
	Land                      // a request on the wire has its next effect
	LoseRequest               // one is lost
	LoseReply                 // the reply to one is lost
	Lie                       // an application says yes and does nothing
	Repair                    // somebody's regular comparison is due, and made
	Expire                    // the stream redelivers what was not acknowledged in time
	Drop                      // a message is lost
	Wipe                      // the whole stream is
	Crash                     // the stream's server loses its last second
	KillRelay                 // a process dies: a relay,
	KillPolicy                // a replica of policy,
	KillWorker                // a worker,
	KillAudit                 // audit,
	KillIngest                // ingest
	PassTime                  // the clock moves
	numberOfMoves = iota
)

var moveNames = [numberOfMoves]string{
	SayOfPerson: "say", Post: "post", PostAgain: "post again", PostOther: "post other", Cut: "cut", Lift: "lift", Approve: "approve",
	IngestTimers: "ingest timers", RelayStep: "relay", PolicyStep: "policy", WorkerStep: "worker", AuditStep: "audit", Land: "land",
	LoseRequest: "lose request", LoseReply: "lose reply", Lie: "lie", Repair: "compare", Expire: "expire", Drop: "drop", Wipe: "wipe",
	Crash: "crash", KillRelay: "kill relay", KillPolicy: "kill policy", KillWorker: "kill worker", KillAudit: "kill audit",
	KillIngest: "kill ingest", PassTime: "pass time",
}

// MarshalText writes the move's name, so that a schedule that is kept means the same when there are other moves.
func (m Move) MarshalText() ([]byte, error) { return []byte(moveNames[m]), nil }

// UnmarshalText reads it.
func (m *Move) UnmarshalText(text []byte) error {
	for n, name := range moveNames {
		if name == string(text) {
			*m = Move(n)
			return nil
		}
	}
	return fmt.Errorf("no move is called %q", text)
}

// weights say how often each move is drawn.
var weights = [numberOfMoves]int{
	SayOfPerson: 8, Post: 9, PostAgain: 1, PostOther: 1, Cut: 2, Lift: 1, Approve: 1, IngestTimers: 3,
	RelayStep: 34, PolicyStep: 34, WorkerStep: 60, AuditStep: 6, Land: 24, LoseRequest: 2, LoseReply: 3, Lie: 1,
	Repair: 3, Expire: 2, Drop: 1, Wipe: 1, Crash: 1,
	KillRelay: 2, KillPolicy: 2, KillWorker: 3, KillAudit: 1, KillIngest: 1, PassTime: 16,
}

// moves has each move as often as it weighs.
var moves = func() []Move {
	var all []Move
	for m, weight := range weights {
		for range weight {
			all = append(all, Move(m))
		}
	}
	return all
}()

// spans are how far the clock may move: short ones mostly.
var spans = [...]time.Duration{
	100 * time.Millisecond, time.Second, time.Second, 3 * time.Second, 3 * time.Second, 9 * time.Second, 14 * time.Second, 14 * time.Second,
	25 * time.Second, 40 * time.Second, 40 * time.Second, 70 * time.Second, 2 * time.Minute, 6 * time.Minute, 16 * time.Minute, 61 * time.Minute,
}

func (w *world) move(c Choice) {
	w.now = w.now.Add(time.Microsecond) // no two moves are at one instant
	who, how := int(c.Who), int(c.How)
	person, app := who%len(w.people), who%len(w.apps)
	switch c.What {
	case SayOfPerson:
		w.ingest.say(person, how)
	case Post:
		w.ingest.post(who, how)
	case PostAgain:
		w.ingest.postAgain(who)
	case PostOther:
		w.ingest.postOther(who)
	case Cut:
		w.ingest.cut(person)
	case Lift:
		w.ingest.lift(person)
	case Approve:
		w.policy.approve(person)
	case IngestTimers:
		w.ingest.timer(person)
	case RelayStep:
		w.outboxes[who%len(w.outboxes)].step(how)
	case PolicyStep:
		w.policy.replicas[who%replicas].step(how)
	case WorkerStep:
		w.apps[who/workers%len(w.apps)].workers[who%workers].step(how)
	case AuditStep:
		w.audit.step(how)
	case Land:
		w.apps[app].land(how)
	case LoseRequest:
		w.apps[app].loseRequest(how)
	case LoseReply:
		w.apps[app].loseReply(how)
	case Lie:
		w.apps[app].lie(how)
	case Repair:
		w.repair(who)
	case Expire:
		w.stream.expire(who)
	case Drop:
		w.stream.drop(who, how)
	case Wipe:
		w.stream.wipe()
	case Crash:
		w.stream.crash()
	case KillRelay:
		w.outboxes[who%len(w.outboxes)].kill()
	case KillPolicy:
		w.policy.replicas[who%replicas].kill()
	case KillWorker:
		w.apps[app].workers[how%workers].kill()
	case KillAudit:
		w.audit.kill()
	case KillIngest:
		w.ingest.kill()
	case PassTime:
		w.pass(spans[how%len(spans)])
	}
}

// repair makes one of the regular comparisons now, whoever's turn it is.
func (w *world) repair(who int) bool {
	parts := 2 + len(w.apps) + len(w.outboxes)
	switch n := who % parts; {
	case n == 0:
		return w.policy.compare()
	case n == 1:
		return w.audit.pull()
	case n < 2+len(w.apps):
		return w.apps[n-2].compare()
	default:
		return w.outboxes[n-2-len(w.apps)].ask()
	}
}
