package main

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// What is handed in at a time: the largest delivery there is, and no more than fits into a message.
const (
	importBatch = 1000    // rows
	importSize  = 1 << 20 // bytes, and the row that goes beyond
)

func newImport(c *client) *cobra.Command {
	var asRoster bool
	var made string
	cmd := &cobra.Command{
		Use:   "import SOURCE FILE.csv",
		Short: "Feed people from a CSV file; safe to repeat",
		Long: `Import hands the rows of a CSV file to a source of kind csv, as records: the header names the fields of a record
(external_id, status, given_name, …, attributes.NAME), each row is one person. The same rows again have no second effect.
A row that cannot be understood is held and listed; the others go in.

With --roster the file is everybody whom the source knows. Nothing of it is taken in before all of it was judged by the
source's contract, and a file that breaks it is held whole (exit code 4). What it repeats changes nothing; whoever is not
in it is shown by "tenure people findings", and keeps their access.`,
		Example: "  tenure import acme-csv people.csv\n  tenure import acme-csv - < people.csv\n  tenure import acme-csv everybody.csv --roster\n  tenure import acme-csv yesterday.csv --roster --made 2026-11-22T06:00:00Z",
		Args:    cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			in, size := os.Stdin, int64(-1)
			if name := s.args[1]; name != "-" {
				file, err := os.Open(name) //nolint:gosec // the file the user named
				if err != nil {
					return fault.New(fault.Usage, "%v", err)
				}
				defer func() { _ = file.Close() }() // only read
				if info, err := file.Stat(); err == nil {
					size = info.Size()
				}
				in = file
			}
			im := &importer{session: s, source: s.args[0]}
			if asRoster {
				return importRoster(im, in, made)
			}
			if made != "" {
				return fault.New(fault.Usage, "--made goes with --roster")
			}
			if err := im.watched(in, size); err != nil {
				return err
			}
			return im.report()
		}),
	}
	cmd.Flags().BoolVar(&asRoster, "roster", false, "the file is everybody whom the source knows")
	cmd.Flags().StringVar(&made, "made", "", "when a roster was made, like 2026-11-22T06:00:00Z (default: now)")
	return cmd
}

// watched is file with a progress bar.
func (im *importer) watched(in io.Reader, size int64) error {
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(im.progress), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription("import"), progressbar.OptionClearOnFinish())
	counted := progressbar.NewReader(in, bar)
	err := im.file(&counted)
	_ = bar.Finish() // a bar that cannot be drawn is no failure
	return err
}

// importer turns rows into records and hands them in, a batch at a time.
type importer struct {
	*session
	source  string
	head    []string
	records []string
	size    int // of records, in bytes
	rows    int // read so far
	held    []*peoplev1.ItemResult
	taken   int
	roster  *rosterFile // nil: the rows are handed in as they are
}

func (im *importer) file(in io.Reader) error {
	reader := csv.NewReader(in)
	reader.ReuseRecord = true
	head, err := reader.Read()
	if err != nil {
		return fault.New(fault.Invalid, "read the header: %v", err)
	}
	if im.head, err = header(head); err != nil {
		return err
	}
	for {
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return im.hand()
		}
		if err != nil {
			return im.stopped("%v", err)
		}
		record, err := im.record(row)
		if err != nil {
			return im.stopped("%v", err)
		}
		im.records = append(im.records, record)
		im.rows++
		im.size += len(record)
		if len(im.records) == importBatch || im.size >= importSize {
			if err := im.hand(); err != nil {
				return err
			}
		}
	}
}

// stopped is the end at something wrong, with what is in by then.
func (im *importer) stopped(format string, args ...any) error {
	return fault.New(fault.Invalid, "%s; the first %d rows are in", fmt.Sprintf(format, args...), im.rows-len(im.records))
}

// header is the names of the columns, of which none may be there twice: of two cells one would be lost.
func header(row []string) ([]string, error) {
	head := slices.Clone(row) // the reader uses it again
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	for i, name := range head {
		switch {
		case !utf8.ValidString(name):
			return nil, fault.New(fault.Invalid, "column %d of the header is not UTF-8", i+1)
		case slices.Contains(head[:i], name):
			return nil, fault.New(fault.Invalid, "the header has the column %q twice", name)
		}
	}
	return head, nil
}

// record is a row as JSON; empty cells are left out, attributes.NAME columns become attributes.
func (im *importer) record(row []string) (string, error) {
	record, attributes := map[string]any{}, map[string]string{}
	for i, name := range im.head {
		if row[i] == "" {
			continue
		}
		if !utf8.ValidString(row[i]) { // JSON would have another character in its place, and nobody would notice
			return "", fmt.Errorf("row %d: %s is not UTF-8: save the file in that encoding", im.rows+1, name)
		}
		if attribute, ok := strings.CutPrefix(name, "attributes."); ok {
			attributes[attribute] = row[i]
		} else {
			record[name] = row[i]
		}
	}
	if len(attributes) > 0 {
		record["attributes"] = attributes
	}
	raw, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("row %d: %w", im.rows+1, err)
	}
	return string(raw), nil
}

// hand gives the batch to ingest. Its key is the digest of its records, so the same rows are the same delivery.
func (im *importer) hand() error {
	if len(im.records) == 0 {
		return nil
	}
	req := &peoplev1.SubmitRequest{Source: im.source, RecordsJson: im.records}
	if im.roster != nil {
		if send := im.roster.next(req); !send {
			im.records, im.size = im.records[:0], 0
			return nil
		}
	} else {
		digest := sha256.New()
		writeRecords(digest, im.records)
		req.Key = "csv-" + hex.EncodeToString(digest.Sum(nil))
	}
	return im.submit(req)
}

// writeRecords writes what tells records from others.
func writeRecords(w io.Writer, records []string) {
	for _, record := range records {
		_, _ = io.WriteString(w, record+"\n") // a digest takes everything
	}
}

// submit hands a batch in and notes what became of it.
func (im *importer) submit(req *peoplev1.SubmitRequest) error {
	first := im.rows - len(req.GetRecordsJson())
	answer, err := im.people.Submit(im.ctx, req)
	if err != nil {
		return fmt.Errorf("rows %d to %d (run it again, what is in has no second effect): %w", first+1, im.rows, err)
	}
	for _, item := range answer.GetItems() {
		if item.GetHeld() == "" {
			im.taken++
			continue
		}
		item.Item += uint32(first) //nolint:gosec // rows of a file that was read
		im.held = append(im.held, item)
	}
	im.records, im.size = im.records[:0], 0
	return nil
}

func (im *importer) report() error {
	if im.out.json {
		return im.out.document(many("held", im.held), part{"taken", func() (json.RawMessage, error) { return json.RawMessage(fmt.Sprint(im.taken)), nil }})
	}
	im.out.line("%d rows taken, %d held", im.taken, len(im.held))
	im.listHeld()
	return nil
}

func (im *importer) listHeld() {
	for _, item := range im.held {
		im.out.line("  row %d (%s): %s", item.GetItem()+1, clean(item.GetExternalId()), clean(item.GetHeld()))
	}
	if len(im.held) > 0 {
		im.out.line("see them: tenure deliveries list --held")
	}
}
