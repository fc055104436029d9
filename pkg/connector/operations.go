package connector

import (
	"context"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// contractMinor is the minor version of tenure.connector.v1 that this package speaks.
const contractMinor = 1

// done is what one step came to when it did not fail.
type done struct {
	change     Change
	account    AccountID // CREATE, and a Poll of one
	credential string
	secret     string
	remaining  Count
}

// operation is all that the package knows of one kind of step. run is only called when can says so.
type operation struct {
	op          eventv1.Op
	takesAway   bool // goes on past earlier failures; what remains if it is not done is access
	repeats     bool // not an ensure
	credentials bool
	cuts        func(Description) bool
	absentIsSo  bool // NOT_FOUND is what it wanted
	can         func(Connector) bool
	run         func(ctx context.Context, impl Connector, ref Ref, step step) (done, error)
}

// step is one step of a request, its secret opened.
type step struct {
	*connectorv1.Step
	secret string
}

// operations in the order in which Describe lists them.
var operations = []operation{
	{
		op:  eventv1.Op_OP_CREATE,
		can: is[Creator],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			id, change, err := impl.(Creator).Create(ctx, NewAccount{Marker: ref.Marker, Attributes: attributes(s)})
			return done{change: change, account: id}, err
		},
	},
	{
		op:  eventv1.Op_OP_UPDATE,
		can: is[Updater],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			change, err := impl.(Updater).Update(ctx, ref, attributes(s), s.GetClear())
			return done{change: change}, err
		},
	},
	{
		op:  eventv1.Op_OP_ENABLE,
		can: is[Enabler],
		run: func(ctx context.Context, impl Connector, ref Ref, _ step) (done, error) {
			change, err := impl.(Enabler).Enable(ctx, ref)
			return done{change: change}, err
		},
	},
	{
		op:        eventv1.Op_OP_DISABLE,
		takesAway: true,
		cuts:      func(d Description) bool { return d.DisableCutsSessions },
		can:       is[Enabler],
		run: func(ctx context.Context, impl Connector, ref Ref, _ step) (done, error) {
			change, err := impl.(Enabler).Disable(ctx, ref)
			return done{change: change}, err
		},
	},
	{
		op:         eventv1.Op_OP_DELETE,
		takesAway:  true,
		absentIsSo: true,
		cuts:       func(d Description) bool { return d.DeleteCutsSessions },
		can:        is[Deleter],
		run: func(ctx context.Context, impl Connector, ref Ref, _ step) (done, error) {
			change, err := impl.(Deleter).Delete(ctx, ref)
			return done{change: change}, err
		},
	},
	{
		op:  eventv1.Op_OP_GRANT,
		can: is[Granter],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			change, err := impl.(Granter).Grant(ctx, ref, s.GetTarget())
			return done{change: change}, err
		},
	},
	{
		op:         eventv1.Op_OP_REVOKE,
		takesAway:  true,
		absentIsSo: true,
		can:        is[Granter],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			change, err := impl.(Granter).Revoke(ctx, ref, s.GetTarget())
			return done{change: change}, err
		},
	},
	{
		op:        eventv1.Op_OP_KILL_SESSIONS,
		takesAway: true,
		can:       is[SessionKiller],
		run: func(ctx context.Context, impl Connector, ref Ref, _ step) (done, error) {
			change, left, err := impl.(SessionKiller).KillSessions(ctx, ref)
			return done{change: change, remaining: left}, err
		},
	},
	{
		op:          eventv1.Op_OP_REVOKE_CREDENTIAL,
		takesAway:   true,
		credentials: true,
		absentIsSo:  true,
		can:         is[CredentialManager],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			change, left, err := impl.(CredentialManager).RevokeCredential(ctx, ref, s.GetTarget())
			return done{change: change, remaining: left}, err
		},
	},
	{
		op:          eventv1.Op_OP_ROTATE_CREDENTIAL,
		repeats:     true,
		credentials: true,
		can:         is[CredentialRotator],
		run: func(ctx context.Context, impl Connector, ref Ref, s step) (done, error) {
			rotated, err := impl.(CredentialRotator).RotateCredential(ctx, ref, Rotation{
				Target: s.GetTarget(), Secret: s.secret, Overlap: s.GetOverlap().AsDuration(),
			})
			return done{change: Changed, credential: rotated.ID, secret: rotated.Secret}, err
		},
	},
}

func is[T any](impl Connector) bool {
	_, ok := impl.(T)
	return ok
}

func attributes(s step) map[string]string {
	if s.GetAttributes() == nil {
		return map[string]string{}
	}
	return s.GetAttributes()
}

// operationOf returns what impl can do for op; false when it is unknown or not implemented.
func operationOf(impl Connector, op eventv1.Op) (operation, bool) {
	for _, o := range operations {
		if o.op == op {
			return o, o.can(impl)
		}
	}
	return operation{}, false
}
