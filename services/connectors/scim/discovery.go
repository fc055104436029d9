package scim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

const (
	serviceProviderConfig = "/ServiceProviderConfig"
	serviceProviderSchema = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"

	rereadEvery  = time.Hour       // what an application publishes
	rereadAfter  = time.Minute     // when it could not be asked
	longestWait  = 2 * time.Second // for it: whoever needs to know can do without
	publishNone  = "ServiceProviderConfig: %s: what the profile says holds"
	publishTells = "ServiceProviderConfig: %s"
)

// published is what a ServiceProviderConfig says of how its application speaks (RFC 7643, section 5; RFC 9865). What is absent, or
// of another type, says nothing.
type published struct {
	noPatch    bool
	noFilter   bool
	onlyCursor bool
	most       int // resources in an answer; 0: it does not say
}

// publishedBy reads one; false: it is none, of SCIM 2.0.
func publishedBy(document resource) (published, bool) {
	schemas, _ := document.get("schemas").([]any)
	is := false
	for _, schema := range schemas {
		is = is || strings.EqualFold(textOf(schema), serviceProviderSchema)
	}
	if !is {
		return published{}, false
	}
	pagination := document.object("pagination")
	out := published{
		noPatch:    says(document.object("patch"), "supported", false),
		noFilter:   says(document.object("filter"), "supported", false),
		onlyCursor: says(pagination, "cursor", true) && says(pagination, "index", false),
		most:       positive(document.object("filter").get("maxResults")),
	}
	if size := positive(pagination.get("maxPageSize")); size > 0 && (out.most == 0 || size < out.most) {
		out.most = size
	}
	return out, true
}

func says(o resource, name string, want bool) bool {
	got, is := o.get(name).(bool)
	return is && got == want
}

// positive is a whole number over 0; else 0.
func positive(v any) int {
	number, _ := v.(json.Number)
	n, err := strconv.Atoi(number.String())
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// asks says whether what an application publishes can matter: a profile that is named says it all.
func (c Config) asks() bool { return c.Dialect == "" || c.Dialect == generic }

// filled is a profile with what was published in those keys of which neither the operator nor a named profile says anything, and
// what that comes to, for people.
func (c Config) filled(p Profile, by published) (Profile, []string) {
	var notes []string
	if by.noPatch && c.Patch == "" {
		p.Patch = patchNone
		notes = append(notes, "no PATCH: changes are sent as PUT")
	}
	if by.onlyCursor && c.Paging == "" {
		p.Paging = pagesByCursor
		notes = append(notes, "listings go by cursor")
	}
	if by.most > 0 && by.most < p.PageSize && c.PageSize == 0 {
		p.PageSize = by.most
		notes = append(notes, fmt.Sprintf("%d resources a page", by.most))
	}
	if by.noFilter {
		notes = append(notes, "no searches: whether that is so, they show")
	}
	return p, notes
}

// discovery is how an application speaks, as far as it is known by now. Safe for concurrent use.
type discovery struct {
	mu      sync.Mutex
	profile Profile
	due     time.Time // when the application is to be asked, or asked again
}

// speaks is how the application speaks: by the configuration, and where that is silent by what the application publishes. That
// is read when it is needed first, by every Check, and after an hour; what cannot be read leaves what was known.
func (a *Application) speaks(ctx context.Context) Profile {
	if !a.cfg.asks() {
		return a.profile
	}
	a.discovered.mu.Lock()
	defer a.discovered.mu.Unlock()
	if !time.Now().Before(a.discovered.due) {
		a.discover(ctx)
	}
	return a.discovered.profile
}

// rediscover asks now, and returns what there is to say about it.
func (a *Application) rediscover(ctx context.Context) []string {
	if !a.cfg.asks() {
		return nil
	}
	a.discovered.mu.Lock()
	defer a.discovered.mu.Unlock()
	return a.discover(ctx)
}

// discover asks the application; the caller holds the lock, so that one asks for all.
func (a *Application) discover(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	got, err := a.client.get(ctx, serviceProviderConfig, nil)
	a.discovered.due = time.Now().Add(rereadEvery)
	if p := problemOf(err); p != nil {
		if p.Code != connectorv1.Code_CODE_PRECONDITION { // no answer, and not a useless one
			a.discovered.due = time.Now().Add(rereadAfter)
		}
		return []string{fmt.Sprintf(publishNone, p.Message)}
	}
	by, is := publishedBy(got.body)
	switch {
	case got.status == http.StatusTooManyRequests, got.status >= 500 && got.status != http.StatusNotImplemented:
		a.discovered.due = time.Now().Add(rereadAfter)
		fallthrough
	case !got.ok():
		return []string{fmt.Sprintf(publishNone, strconv.Itoa(got.status)+" "+http.StatusText(got.status))}
	case !is:
		return []string{fmt.Sprintf(publishNone, "not a document of SCIM 2.0")}
	}
	filled, notes := a.cfg.filled(a.profile, by)
	a.discovered.profile = filled
	if len(notes) == 0 {
		return nil
	}
	return []string{fmt.Sprintf(publishTells, strings.Join(notes, "; "))}
}
