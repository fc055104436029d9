// Package race is the leaver race, searched whole: one person who joined and then leaves, one application, two replicas of
// policy and two workers, every message delivered once more than needed, one crash that leaves a call on the wire, and
// every order in which all that can happen.
//
// It says of a design in how many of its end states the leaver still has access. Tenure's own design has none; the designs
// that look right and are not are kept beside it, so that the search is seen to find what it is there to find.
//
// The model is of the protocol, not of the code: policy's compare-and-set (docs/architecture.md), the lease on a target, the
// fresh read of desired access under it, and read-back. Versions 1 and 2 of the person are the joiner and the leaver.
package race

// Design is a way to build the path from a fact to the application.
type Design struct {
	Name string
	What string

	Unguarded bool // policy writes what it decided without looking whether somebody decided from a newer version
	Reread    bool // a worker acts on desired access as it is now, not on what the message says
	SkipOlder bool // a worker leaves out what is not newer than what was done last
	Lease     bool // one worker at a time
	Expires   bool // the lease may end while its holder is still at it
	Pauses    bool // a worker may stop between the look at its lease and the call, for longer than the lease lasts
	Repairs   bool // what the application shows is read afterwards and later again, and mended
	Fenced    bool // the application refuses what is older than what it has
}

// Designs are those that PROMISES speak of, the broken ones first.
func Designs() []Design {
	return []Design{
		{Name: "A", What: "the message is carried out as it is"},
		{Name: "B", What: "older messages are left out", SkipOlder: true},
		{Name: "C", What: "desired access is read again", Reread: true},
		{Name: "D", What: "a lock that may expire, and older messages left out", SkipOlder: true, Lease: true, Expires: true},
		{Name: "E", What: "a lock that may expire, and desired access read again", Reread: true, Lease: true, Expires: true},
		{Name: "F2", What: "a lease that outlives the request, but for a pause before it", Reread: true, Lease: true, Pauses: true},
		{Name: "P0", What: "Tenure without policy's compare-and-set", Unguarded: true, Reread: true, Lease: true, Pauses: true, Repairs: true},
		{Name: "F", What: "a lease that outlives the request, and no pauses", Reread: true, Lease: true},
		{Name: "G", What: "an application that refuses what is older", Reread: true, Lease: true, Pauses: true, Fenced: true},
		{Name: "H", What: "Tenure: F2 with read-back and repair", Reread: true, Lease: true, Pauses: true, Repairs: true},
	}
}

// Broken tells whether the search must find a leaver with access.
func (d Design) Broken() bool {
	switch d.Name {
	case "F", "G", "H":
		return false
	}
	return true
}

// Result is what the search found.
type Result struct {
	States   int
	Ends     int // states in which nothing can happen any more
	Bad      int // of these, with access for the leaver
	Revivals int // transitions that give a leaver access who had none
	Story    []string
}

const (
	replicas = 2
	workers  = 2
	most     = 6 // generations; more cannot be told, since there are four deliveries to policy
)

// stage of a worker or a replica of policy.
type stage uint8

const (
	idle   stage = iota
	begun        // has a message
	ready        // knows what it wants to do
	called       // its call is on the wire
	landed       // its call was answered
)

type replica struct {
	stage   stage
	version uint8 // of the person, as read
}

type worker struct {
	stage      stage
	message    uint8 // generation whose message it has; 0: a look of its own
	generation uint8 // that it acts on
}

// call is on the wire until it lands or is lost.
type call struct {
	generation uint8 // 0: none
	orphan     bool  // who made it is dead
}

// state is everything, and comparable.
type state struct {
	version   uint8 // of the person: 1 joined, 2 left
	lifecycle [3]uint8
	replicas  [replicas]replica

	generation uint8           // of desired access; 0: never decided
	decided    [most + 1]uint8 // the person version that each generation was decided from
	access     [most + 1]uint8 // deliveries left of each generation's message

	workers [workers]worker
	holder  uint8 // of the lease: 1 + worker; 0: free
	wire    [workers]call
	crashes uint8 // left

	done    uint8 // the generation that was done last, by the record
	enabled bool
	fence   uint8 // the newest generation that the application has seen
}

// deliveries is how often each message comes: once, and once more.
const deliveries = 2

func start() state {
	s := state{version: 1, crashes: 1}
	s.lifecycle[1] = deliveries
	return s
}

// wants tells whether the person should have access by a generation.
func (s *state) wants(generation uint8) bool { return generation > 0 && s.decided[generation] == 1 }

// bad tells whether the leaver has access, or should by the last decision.
func (s *state) bad() bool { return s.version == 2 && (s.enabled || s.wants(s.generation)) }

// Search visits every state. Of the first bad end it tells the shortest way there.
func (d Design) Search() Result {
	type from struct {
		state state
		what  string
	}
	first := start()
	came := map[state]from{first: {}}
	queue := []state{first}
	var result Result
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		ended := true
		d.next(s, func(what string, to state) {
			ended = false
			if s.version == 2 && !s.enabled && to.enabled {
				result.Revivals++
			}
			if _, known := came[to]; !known {
				came[to] = from{s, what}
				queue = append(queue, to)
			}
		})
		if !ended {
			continue
		}
		result.Ends++
		if !s.bad() {
			continue
		}
		if result.Bad++; result.Bad == 1 {
			for at := s; at != first; at = came[at].state {
				result.Story = append([]string{came[at].what}, result.Story...)
			}
		}
	}
	result.States = len(came)
	return result
}
