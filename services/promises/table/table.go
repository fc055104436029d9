// Package table is what came of trying Tenure's promises: one row for each promise and way of trying it.
package table

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// EnvFile names the variable with the file to which a test that tries a promise at length adds its rows.
const EnvFile = "TENURE_FIGURES"

// Row is one line.
type Row struct {
	Promise      string `json:"promise"` // its number in docs/promises.md
	Tried        string `json:"tried"`
	N            int    `json:"n"`
	Violations   int    `json:"violations"`
	Figure       string `json:"figure"`
	SeededKilled int    `json:"seeded_killed"` // of the bugs that were made on purpose, those that were found
	SeededTotal  int    `json:"seeded_total"`
}

// Holds says that nothing was violated, and that every bug was found.
func (r Row) Holds() bool { return r.Violations == 0 && r.SeededKilled == r.SeededTotal }

// Show prints rows for people.
func Show(w io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROMISE\tTRIED\tN\tVIOLATIONS\tFIGURE\tSEEDED BUGS KILLED")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%d/%d\n", r.Promise, r.Tried, r.N, r.Violations, r.Figure, r.SeededKilled, r.SeededTotal)
	}
	return table.Flush()
}

// Write makes a file of rows, as JSON lines.
func Write(path string, rows []Row) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing secret
		return err
	}
	return put(path, os.O_TRUNC, rows)
}

// Add adds rows to a file.
func Add(path string, rows ...Row) error { return put(path, os.O_APPEND, rows) }

func put(path string, how int, rows []Row) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|how, 0o644) //nolint:gosec // nothing secret, and named by who runs it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := json.NewEncoder(f)
	for _, r := range rows {
		if err := lines.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// Read returns the rows of a file; there need not be one.
func Read(path string) (rows []Row, err error) {
	f, err := os.Open(path) //nolint:gosec // named by who runs it
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r Row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
