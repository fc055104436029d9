package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

// person is what a webhook says of somebody.
type person struct {
	ID         string `json:"external_id"`
	Status     string `json:"status"`
	GivenName  string `json:"given_name"`
	FamilyName string `json:"family_name"`
	Email      string `json:"email"`
	Department string `json:"department"`
	Effective  string `json:"effective_date"`
}

// intake takes webhooks. What it acknowledges is stored, with its jobs.
type intake struct {
	keys         *standardwebhooks.Keys
	pool         *pgxpool.Pool
	client       *river.Client[pgx.Tx]
	applications int
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	message, err := in.keys.Verify(r.Header, body, time.Now())
	if err != nil {
		http.Error(w, "refused", http.StatusUnauthorized)
		return
	}
	var said struct {
		Data json.RawMessage `json:"data"`
	}
	var p person
	err = json.Unmarshal(body, &said)
	if err == nil {
		err = json.Unmarshal(said.Data, &p)
	}
	if err != nil || p.ID == "" {
		http.Error(w, "not a person's record", http.StatusBadRequest)
		return
	}
	duplicate, err := in.store(r.Context(), message.ID, body, said.Data, p)
	if err != nil {
		http.Error(w, "try again", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"duplicate":%t}`, duplicate) // a sender that has gone sends it again
}

// store commits a webhook with what it says and a job for each application.
func (in *intake) store(ctx context.Context, id string, body, record []byte, p person) (duplicate bool, err error) {
	err = pgx.BeginFunc(ctx, in.pool, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, "INSERT INTO webhooks (id, person, stored_at, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			id, p.ID, time.Now().UnixMicro(), body)
		if err != nil || done.RowsAffected() == 0 {
			duplicate = err == nil
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO people (id, effective_date, record) VALUES ($1, $2, $3) "+
			"ON CONFLICT (id) DO UPDATE SET effective_date = excluded.effective_date, record = excluded.record "+
			"WHERE people.effective_date <= excluded.effective_date", p.ID, p.Effective, record); err != nil {
			return err
		}
		jobs := make([]river.InsertManyParams, in.applications)
		for n := range jobs {
			jobs[n].Args = ensure{Webhook: id, Person: p.ID, Application: fmt.Sprintf("app%d", n+1)}
		}
		_, err = in.client.InsertManyTx(ctx, tx, jobs)
		return err
	})
	return duplicate, err
}
