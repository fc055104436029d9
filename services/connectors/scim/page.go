package scim

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	firstIndex = 1 // RFC 7644, section 3.4.2.4
	maxPages   = 100_000
	// fruitless is how many pages in a row may hold nothing new before the listing counts as one that goes in circles.
	fruitless = 3
)

// pages calls each once for every resource. Servers return less than was asked for, overlap, count wrongly and begin again
// behind the end: so the next page begins where this one really ended, what was seen is left out, and the number of
// different resources decides whether these are all. When some are missing everything is gone through once more.
func (a *Application) pages(ctx context.Context, path string, query url.Values, each func(resource) error) error {
	l := listing{app: a, profile: a.speaks(ctx), path: path, query: query, each: each, seen: map[connector.AccountID]bool{}}
	for range 2 {
		if err := l.run(ctx); err != nil {
			return err
		}
		if l.complete() {
			return nil
		}
	}
	return connector.Inconsistent("GET %s: %d different resources, although there are %d", path, len(l.seen), l.total)
}

type listing struct {
	app     *Application
	profile Profile // the same to the end
	path    string
	query   url.Values
	each    func(resource) error
	seen    map[connector.AccountID]bool
	total   int // as the last page says; -1: it does not
}

func (l *listing) complete() bool { return len(l.seen) >= l.total }

// run goes through the listing from its beginning to its end.
func (l *listing) run(ctx context.Context) error {
	at, cursor, without := firstIndex, "", 0
	byCursor := l.profile.Paging == pagesByCursor
	for range maxPages {
		got, err := l.page(ctx, at, cursor, byCursor)
		switch {
		case err != nil:
			return err
		case got == nil:
			return nil
		}
		rows := got.objects("Resources")
		fresh, err := l.take(rows)
		if err != nil {
			return err
		}
		l.total = -1
		if total, err := strconv.Atoi(got.text("totalResults")); err == nil {
			l.total = total
		}
		at += len(rows)
		if without++; fresh > 0 {
			without = 0
		}
		cursor = got.text("nextCursor")
		byCursor = byCursor || cursor != "" // offered
		switch {
		case byCursor && cursor == "", !byCursor && len(rows) == 0:
			return nil
		case !byCursor && fresh == 0 && at > l.total:
			return nil
		case without >= fruitless:
			return nil
		}
	}
	return connector.Inconsistent("GET %s: no end after %d pages", l.path, maxPages)
}

// page asks for one page; nil: there is none.
func (l *listing) page(ctx context.Context, at int, cursor string, byCursor bool) (resource, error) {
	query := url.Values{"count": {strconv.Itoa(l.profile.PageSize)}}
	for key, values := range l.query {
		query[key] = values
	}
	if byCursor {
		query.Set("cursor", cursor)
	} else {
		query.Set("startIndex", strconv.Itoa(at))
	}
	got, err := l.app.client.get(ctx, l.path, query)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusNotFound && (l.query != nil || at > firstIndex):
		return nil, nil // nobody, or nobody any more
	case !got.ok():
		return nil, got.problem()
	}
	return got.body, nil
}

// take hands on what was not seen before, and says how much that was.
func (l *listing) take(rows []resource) (fresh int, err error) {
	for _, row := range rows {
		id := row.id()
		switch {
		case id == "":
			return fresh, connector.Inconsistent("GET %s: a resource without an id", l.path)
		case l.seen[id]:
			continue
		}
		l.seen[id] = true
		fresh++
		if err := l.each(row); err != nil {
			return fresh, err
		}
	}
	return fresh, nil
}
