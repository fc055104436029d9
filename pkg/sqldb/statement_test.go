package sqldb_test

import (
	"testing"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func TestParametersKeepTheirPlaceHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine)
			for text, want := range map[string]string{
				`SELECT CAST($1 AS TEXT) || CAST($2 AS TEXT) || CAST($3 AS TEXT)`:                                       "abc",
				`SELECT CAST($3 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT)`:                                       "cab",
				`SELECT CAST($1 AS TEXT) || CAST($1 AS TEXT) || CAST($3 AS TEXT) || CAST($2 AS TEXT)`:                   "aacb",
				`SELECT CAST($1 AS TEXT) || '$2 ''$9''' || CAST($2 AS TEXT) || CAST($3 AS TEXT)`:                        "a$2 '$9'bc",
				"SELECT CAST($1 AS TEXT) -- $7\n || CAST($2 AS TEXT) || CAST($3 AS TEXT)":                               "abc",
				`SELECT x."$1" || CAST($1 AS TEXT) || CAST($2 AS TEXT) || CAST($3 AS TEXT) FROM (SELECT 'x' AS "$1") x`: "xabc",
			} {
				var got string
				if err := db.QueryRow(t.Context(), text, "a", "b", "c").Scan(&got); err != nil || got != want {
					t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
				}
			}
			if sqldb.Values(1, 2) != "($1, $2)" {
				t.Error("Values writes parameters in another form than this test is about")
			}
		})
	}
}
