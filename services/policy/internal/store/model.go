package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy/model"
)

// Model is an applied role model.
type Model struct {
	Seq           int64 // 0: none was applied yet
	SHA256        []byte
	Files         []model.File
	AppliedBy     string
	AppliedAt     time.Time
	EventID       string // of its ModelApplied
	CorrelationID string
}

// ModelSeq returns the number of the model that holds, 0 when there is none.
func (s *Store) ModelSeq(ctx context.Context) (int64, error) {
	const query = `SELECT COALESCE(MAX(seq), 0) FROM models`
	var seq int64
	if err := s.db.QueryRow(ctx, query).Scan(&seq); err != nil {
		return 0, fmt.Errorf("read number of the model: %w", err)
	}
	return seq, nil
}

// CurrentModel returns the model that holds; its Seq is 0 when there is none.
func (s *Store) CurrentModel(ctx context.Context) (Model, error) {
	const query = `
SELECT seq, sha256, files, applied_by, applied_at, event_id, correlation_id
FROM models ORDER BY seq DESC LIMIT 1`
	var m Model
	var files []byte
	var at int64
	err := s.db.QueryRow(ctx, query).Scan(
		&m.Seq, &m.SHA256, &files, &m.AppliedBy, &at, &m.EventID, &m.CorrelationID)
	if errors.Is(err, sqldb.ErrNoRows) {
		return Model{}, nil
	}
	if err != nil {
		return Model{}, fmt.Errorf("read model: %w", err)
	}
	var stored accessv1.ShowModelResponse
	if err := proto.Unmarshal(files, &stored); err != nil {
		return Model{}, fmt.Errorf("decode files of model %d: %w", m.Seq, err)
	}
	for _, f := range stored.GetFiles() {
		m.Files = append(m.Files, model.File{Name: f.GetName(), Content: f.GetContent()})
	}
	m.AppliedAt = sqldb.Time(at)
	return m, nil
}

// AddModel makes m the model that holds. False: m.Seq is not the next number, because another model was applied.
func (t Tx) AddModel(ctx context.Context, m Model) (bool, error) {
	stored := &accessv1.ShowModelResponse{}
	for _, f := range m.Files {
		stored.Files = append(stored.Files, &accessv1.ModelFile{Name: f.Name, Content: f.Content})
	}
	files, err := proto.Marshal(stored)
	if err != nil {
		return false, fmt.Errorf("encode files of model: %w", err)
	}
	const insert = `
INSERT INTO models (seq, sha256, files, applied_by, applied_at, event_id, correlation_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (seq) DO NOTHING`
	rows, err := t.Exec(ctx, insert,
		m.Seq, m.SHA256, files, m.AppliedBy, sqldb.Micros(m.AppliedAt), m.EventID, m.CorrelationID)
	if err != nil {
		return false, fmt.Errorf("insert model: %w", err)
	}
	// Numbers have no gaps: whoever asks for a number too high compared with a model that was never applied.
	const before = `SELECT COUNT(*) FROM models WHERE seq < $1`
	var count int64
	if err := t.QueryRow(ctx, before, m.Seq).Scan(&count); err != nil {
		return false, fmt.Errorf("count models: %w", err)
	}
	return rows == 1 && count == m.Seq-1, nil
}
