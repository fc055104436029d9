// Package crash names the points of persistence and of the network at which a process may die, and in a program built
// with the tag crashpoints lets it die there: by SIGKILL, at the hit that the environment names. Everybody else's
// programs have nothing of it: Enabled is a constant, and what it guards is compiled away.
//
// A point's name says where it is ("policy", a database; "ingest", an origin), which function of a service got there,
// and what was about to happen or had just happened. A step that is added later has points by itself.
package crash

// The environment variables of a program with crash points.
const (
	// EnvPoint is NAME#K: die at the Kth time that the point of that name is reached. Empty: never.
	EnvPoint = "TENURE_CRASH_POINT"
	// EnvList is a file to which each point's name is added whenever it is reached, a line each. Empty: none.
	EnvList = "TENURE_CRASH_LIST"
)
