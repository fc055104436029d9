package audit_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/audit/internal/store"
)

func TestAReplicaThatDoesNotWriteTheLogTellsOfTheSameHole(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, audit.Migrations(), func(t *testing.T, db *sqldb.DB) {
		b, key := bustest.New(t), filepath.Join(t.TempDir(), "audit.key")
		replicas := []*world{startWith(t, db, b, key), startWith(t, db, b, key)} // one of them has the lease
		if err := b.PublishChunk(t.Context(), []bus.Event{event("ingest", 1), event("ingest", 3)}); err != nil {
			t.Fatal(err)
		}
		for n, w := range replicas {
			eventually(t, fmt.Sprintf("replica %d tells of the hole", n), func() bool {
				answer, err := w.client.Recorded(t.Context(), &auditv1.RecordedRequest{Origin: "ingest"})
				return err == nil && answer.GetSeq() == 1 && answer.GetBehind().AsDuration() > 0
			})
		}
	})
}

// The lease keeps replicas from writing at the same time. Should it ever fail, nothing is recorded twice for that.
func TestReplicasThatAllWriteRecordEachEventOnce(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, audit.Migrations(), func(t *testing.T, db *sqldb.DB) {
		const events = 200
		key, b := filepath.Join(t.TempDir(), "audit.key"), bustest.New(t)
		var replicas []*world
		var all sync.WaitGroup
		for range 3 {
			service, err := audit.New(audit.Config{KeyFile: key}, audit.Deps{DB: db, Bus: b, Log: zap.NewNop(), Registry: prometheus.NewRegistry(), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			replicas = append(replicas, &world{t: t, db: db, service: service})
		}
		for _, w := range replicas {
			all.Go(func() {
				for seq := uint64(1); seq <= events; {
					switch err := w.service.RecordAnew(t.Context(), []bus.Event{event("ingest", seq), event("policy", seq)}); {
					case err == nil:
						seq++
					case !errors.Is(err, store.ErrMoved):
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		report, err := replicas[0].verify()
		if err != nil || report.Origins["ingest"] != events || report.Origins["policy"] != events {
			t.Errorf("report %+v, %v", report, err)
		}
	})
}
