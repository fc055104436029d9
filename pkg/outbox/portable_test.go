package outbox_test

import (
	"os"
	"testing"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func TestTheSQLIsPortable(t *testing.T) {
	t.Parallel()
	sqltest.CheckPortable(t, os.DirFS("."))
}
