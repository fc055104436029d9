package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

func TestErrorsSayWhatTheCallerCanDo(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	for what, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"disk full":             {code("53100"), fault.Unavailable},
		"out of memory":         {code("53200"), fault.Unavailable},
		"too many connections":  {code("53300"), fault.Unavailable},
		"shutting down":         {code("57P01"), fault.Unavailable},
		"starting up":           {code("57P03"), fault.Unavailable},
		"connection failure":    {code("08006"), fault.Unavailable},
		"I/O error":             {code("58030"), fault.Unavailable},
		"standby":               {code("25006"), fault.Unavailable},
		"serialization failure": {code("40001"), fault.Conflict},
		"deadlock":              {code("40P01"), fault.Conflict},
		"duplicate key":         {code("23505"), fault.Internal},
		"no such table":         {code("42P01"), fault.Internal},
		"no code":               {code(""), fault.Internal},
		"connection reset":      {&net.OpError{Op: "read", Err: errors.New("reset")}, fault.Unavailable},
		"connection ended":      {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), fault.Unavailable},
		"deadline":              {context.DeadlineExceeded, fault.Unavailable},
		"something else":        {errors.New("else"), fault.Internal},
	} {
		got := sqldb.Classify(c.err)
		if fault.KindOf(got) != c.want {
			t.Errorf("%s: %v, want %v", what, fault.KindOf(got), c.want)
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%s: the cause is lost", what)
		}
	}
	if sqldb.Classify(nil) != nil {
		t.Error("no error became one")
	}
}
