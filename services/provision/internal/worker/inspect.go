package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// warnBefore is how long before its end a credential is a problem: who may renew it can be on holiday.
const warnBefore = 14 * 24 * time.Hour

// inspect asks an application that works whether it is well, now and then, and runs until ctx ends: a credential that is about
// to end is seen by asking alone, as long as it works.
func (a *application) inspect(ctx context.Context, every time.Duration) error {
	for {
		if a.admit(ctx, false) == nil {
			response, p := a.check(ctx)
			if p != nil {
				a.log.Warn("application is not well", zap.String("code", CodeName(p.Code)), zap.String("reason", p.Reason))
			}
			if p = a.expiring(a.now()); response != nil && p != nil {
				a.log.Warn("the connector's credential has to be renewed", zap.Time("expires", response.GetCredentialExpiresAt().AsTime()))
			}
		}
		if err := sleep(ctx, jitter(every)); err != nil {
			return nil //nolint:nilerr // told to stop
		}
	}
}

// learn remembers when the credential ends. An application that could not say anything leaves what was known.
func (a *application) learn(response *connectorv1.CheckResponse) {
	var expires time.Time
	switch at := response.GetCredentialExpiresAt(); {
	case at != nil && at.IsValid():
		expires = at.AsTime()
	case len(response.GetProblems()) > 0:
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expires = expires
	a.metrics.expires(a.name, expires)
}

// expiring says that the credential ends soon, or has; nil: it does not, as far as is known.
func (a *application) expiring(now time.Time) *connector.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expires.IsZero() || a.expires.Sub(now) > warnBefore {
		return nil
	}
	return connector.Auth(reasonExpires, "the connector's credential ends at %s: renew it", a.expires.Format(time.RFC3339))
}
