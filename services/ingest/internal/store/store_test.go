package store_test

import (
	"os"
	"testing"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// What the statements do is tested through the service, on both engines.

func TestTheSQLMeansTheSameOnBothEngines(t *testing.T) {
	t.Parallel()
	sqltest.CheckPortable(t, os.DirFS("."))
}
