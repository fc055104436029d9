package plan

// Op is an ensure-operation.
type Op int

// The operations; the numbers are those of tenure.event.v1.Op.
const (
	NoOp Op = iota
	Create
	Update
	Enable
	Disable
	Delete
	Grant
	Revoke
	KillSessions
	RevokeCredential
	RotateCredential
)

var opNames = [...]string{
	"", "CREATE", "UPDATE", "ENABLE", "DISABLE", "DELETE", "GRANT", "REVOKE",
	"KILL_SESSIONS", "REVOKE_CREDENTIAL", "ROTATE_CREDENTIAL",
}

// String returns the name as on the wire, without its prefix.
func (o Op) String() string {
	if o < 0 || int(o) >= len(opNames) {
		return "UNKNOWN"
	}
	return opNames[o]
}

// Destructive says that the operation takes access or data away; it then needs a release.
func (o Op) Destructive() bool {
	switch o {
	case Disable, Delete, Revoke, KillSessions, RevokeCredential:
		return true
	case NoOp, Create, Update, Enable, Grant, RotateCredential:
		return false
	}
	return true // what we do not know is taken for the worse
}
