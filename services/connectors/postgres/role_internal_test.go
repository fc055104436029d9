package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

func TestSinceVersion16AMembershipIsRevokedFromEachGrantor(t *testing.T) {
	t.Parallel()
	group, member := role{name: "g"}, role{name: `m"x`}
	from := []string{"postgres", "Ruth"}
	if diff := cmp.Diff([]string{`REVOKE "g" FROM "m""x"`}, revocations(group, member, from, 159999)); diff != "" {
		t.Errorf("15 (-want +got):\n%s", diff)
	}
	want := []string{`REVOKE "g" FROM "m""x" GRANTED BY "postgres"`, `REVOKE "g" FROM "m""x" GRANTED BY "Ruth"`}
	if diff := cmp.Diff(want, revocations(group, member, from, 160000)); diff != "" {
		t.Errorf("16 (-want +got):\n%s", diff)
	}
}

func TestACommentKeepsWhatPeopleWroteAndFindsTheMarker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		people := rapid.StringMatching(`[a-zé'\\ \n]*`).Draw(t, "people")
		marker := rapid.StringMatching(`[a-zé'\\ :]+`).Draw(t, "marker")
		gotPeople, gotMarker := splitComment(joinComment(people, marker))
		if gotPeople != people || gotMarker != marker {
			t.Fatalf("%q and %q come back as %q and %q", people, marker, gotPeople, gotMarker)
		}
		if _, found := splitComment(people); found != "" {
			t.Fatalf("%q carries no marker, but %q was found", people, found)
		}
	})
}

func TestLiteralsAreSafeWhateverTheServerTakesABackslashFor(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a": `'a'`, "o'b": `'o''b'`, `a\`: ` E'a\\'`, `\'; DROP`: ` E'\\''; DROP'`, "": `''`} {
		if got := quoteLiteral(in); got != want {
			t.Errorf("%q is quoted %s, want %s", in, got, want)
		}
	}
}

func TestWhatTheServerSaysIsClassified(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]connectorv1.Code{
		"42710": connectorv1.Code_CODE_ALREADY_EXISTS, "23505": connectorv1.Code_CODE_ALREADY_EXISTS, "42704": connectorv1.Code_CODE_NOT_FOUND,
		"42501": connectorv1.Code_CODE_DENIED, "40001": connectorv1.Code_CODE_CONFLICT, "55P03": connectorv1.Code_CODE_CONFLICT,
		"2BP01": connectorv1.Code_CODE_PRECONDITION, "0LP01": connectorv1.Code_CODE_PRECONDITION, "42939": connectorv1.Code_CODE_INVALID,
		"22021": connectorv1.Code_CODE_INVALID, "28P01": connectorv1.Code_CODE_AUTH, "28000": connectorv1.Code_CODE_AUTH,
		"53300": connectorv1.Code_CODE_RATE_LIMITED, "57P03": connectorv1.Code_CODE_TARGET_UNAVAILABLE, "57P01": connectorv1.Code_CODE_TARGET_UNAVAILABLE,
		"53200": connectorv1.Code_CODE_TARGET_UNAVAILABLE, "08006": connectorv1.Code_CODE_TARGET_UNAVAILABLE,
		"XX000": connectorv1.Code_CODE_PRECONDITION, "": connectorv1.Code_CODE_PRECONDITION, "99999": connectorv1.Code_CODE_PRECONDITION,
	} {
		if got := fromServer(&pgconn.PgError{Severity: "ERROR", Code: state, Message: "m"}); got.Code != want {
			t.Errorf("%s is %v, want %v", state, got.Code, want)
		}
	}
	if got := fromServer(&pgconn.PgError{Code: "XX000", Message: "tuple concurrently updated"}); got.Code != connectorv1.Code_CODE_CONFLICT {
		t.Errorf("two at once is %v, want CONFLICT", got.Code)
	}
	if got := fromServer(&pgconn.PgError{Code: "2BP01", Message: "m", Detail: "owner of table t"}); !strings.Contains(got.Message, "owner of table t") {
		t.Errorf("%q does not say what depends on it", got.Message)
	}
}

func TestOnlyALostCommitIsUnknown(t *testing.T) {
	t.Parallel()
	code := func(err error) connectorv1.Code {
		var p *connector.Problem
		if !errors.As(err, &p) {
			t.Fatalf("%v is no problem", err)
		}
		return p.Code
	}
	reset := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		err           error
		before, after connectorv1.Code
	}{
		"a reset":            {reset, connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		"a time-out":         {context.DeadlineExceeded, connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		"the server's end":   {&pgconn.PgError{Severity: "FATAL", Code: "57P01"}, connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		"the server's error": {&pgconn.PgError{Severity: "ERROR", Code: "40001"}, connectorv1.Code_CODE_CONFLICT, connectorv1.Code_CODE_CONFLICT},
	} {
		if got := code(notDone(c.err)); got != c.before {
			t.Errorf("%s before COMMIT is %v, want %v", name, got, c.before)
		}
		if got := code(maybeDone(c.err)); got != c.after {
			t.Errorf("%s at COMMIT is %v, want %v", name, got, c.after)
		}
	}
}
