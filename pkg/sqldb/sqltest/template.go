package sqltest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

// dropTime bounds the removal of a test's database.
const dropTime = time.Minute

// templates are databases in which sets have run, to be cloned: copying one is faster than migrating.
type templates struct {
	mu   sync.Mutex
	made map[string]bool
}

// clone returns the quick DSN of a fresh database in which the sets have run.
func (s *server) clone(tb testing.TB, sets []sqldb.Migrations) string {
	tb.Helper()
	template, err := s.template(tb.Context(), sets)
	if err != nil {
		tb.Fatalf("make template database: %v", err)
	}
	return s.fast(s.createDatabase(tb, template))
}

func (s *server) template(ctx context.Context, sets []sqldb.Migrations) (string, error) {
	digest := sha256.New()
	for _, set := range sets {
		if err := hashSet(digest, set); err != nil {
			return "", err
		}
	}
	name := "template_" + hex.EncodeToString(digest.Sum(nil)[:12])
	s.templates.mu.Lock()
	defer s.templates.mu.Unlock()
	if s.templates.made[name] {
		return name, nil
	}
	if err := s.makeTemplate(ctx, name, sets); err != nil {
		return "", err
	}
	if s.templates.made == nil {
		s.templates.made = make(map[string]bool)
	}
	s.templates.made[name] = true
	return name, nil
}

func hashSet(digest hash.Hash, set sqldb.Migrations) error {
	fmt.Fprintf(digest, "%q\n", set.Name)
	return fs.WalkDir(set.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(set.FS, path)
		fmt.Fprintf(digest, "%q %q\n", path, text)
		return err
	})
}

// makeTemplate migrates the database of that name. On a server that is not ours other processes want the same one, and
// an earlier run may have left it, perhaps half done.
func (s *server) makeTemplate(ctx context.Context, name string, sets []sqldb.Migrations) error {
	conn, err := pgx.Connect(ctx, s.fast("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // this also gives the lock back
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return err
		}
	}
	db, err := sqldb.Open(ctx, sqldb.Config{Postgres: config.NewSecret([]byte(s.fast(name))), Schema: schema}, sets...)
	if err != nil {
		return err
	}
	return db.Close()
}

// createDatabase clones template and returns the new database's name. It is dropped with the test.
func (s *server) createDatabase(tb testing.TB, template string) string {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), s.fast("postgres"))
	if err != nil {
		tb.Fatalf("connect to test server: %v", err)
	}
	ctx := context.WithoutCancel(tb.Context())
	defer conn.Close(ctx)
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		tb.Fatalf("create test database: %v", err)
	}
	tb.Cleanup(func() { s.drop(ctx, tb, name) })
	return name
}

func (s *server) drop(ctx context.Context, tb testing.TB, name string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.fast("postgres"))
	if err != nil {
		tb.Errorf("connect to test server: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		tb.Errorf("drop test database: %v", err)
	}
}
