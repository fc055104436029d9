package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
)

func newAudit(c *client) *cobra.Command {
	return group("audit", "The record that nobody can quietly change",
		newAuditLog(c), newAuditProof(c), newAuditCheckpoint(c), newAuditExport(c), newAuditVerify(c))
}

func newAuditLog(c *client) *cobra.Command {
	req := &auditv1.EntriesRequest{}
	var person string
	cmd := &cobra.Command{
		Use: "log", Short: "Entries of the log", Args: cobra.NoArgs,
		Example: "  tenure audit log --person 10001\n  tenure audit log --from 100 --to 200 -o json",
		RunE: c.run(func(s *session) error {
			if err := checkKind(req.GetKind()); err != nil {
				return err
			}
			if person != "" {
				found, err := s.holder(person)
				if err != nil {
					return err
				}
				req.PersonId = found.GetId()
			}
			stream, err := s.audit.Entries(s.ctx, req)
			if err != nil {
				return err
			}
			return each(stream, func(m *auditv1.EntriesResponse) error { return printEntries(s.out, m.GetEntries()) })
		}),
	}
	cmd.Flags().Uint64Var(&req.From, "from", 0, "the first entry")
	cmd.Flags().Uint64Var(&req.To, "to", 0, "the entry to stop before; 0: the end")
	cmd.Flags().StringVar(&person, "person", "", "only about this person")
	cmd.Flags().StringVar(&req.Application, "app", "", "only of this application")
	cmd.Flags().StringVar(&req.Kind, "kind", "", "only this lifecycle kind or fact")
	return cmd
}

func newAuditProof(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "proof N", Short: "Prove that entry N is in the log: a C2SP tlog-proof that anybody can verify offline", Args: cobra.ExactArgs(1),
		Example: "  tenure audit proof 42 > entry42.tlog-proof\n  tenure audit proof 42 -o json",
		RunE: c.run(func(s *session) error {
			index, err := strconv.ParseUint(s.args[0], 10, 63)
			if err != nil {
				return fault.New(fault.Usage, "%q is not the number of an entry", s.args[0])
			}
			answer, err := s.audit.Proof(s.ctx, &auditv1.ProofRequest{Index: index})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			_, err = io.WriteString(s.out.w, answer.GetTlogProof())
			return err
		}),
	}
}

func newAuditCheckpoint(c *client) *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use: "checkpoint", Short: "The newest signed head; keep it where Tenure's database administrator cannot reach it", Args: cobra.NoArgs,
		Example: "  tenure audit checkpoint --now > held-elsewhere.checkpoint",
		RunE: c.run(func(s *session) error {
			answer, err := s.audit.Checkpoint(s.ctx, &auditv1.CheckpointRequest{SignNow: now})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			_, err = io.WriteString(s.out.w, answer.GetNote())
			return err
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "sign everything that is recorded by now")
	return cmd
}

func newAuditExport(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "export DIR", Short: "All that the offline verifier needs: leaves, hashes, checkpoints", Args: cobra.ExactArgs(1),
		Example: "  tenure audit export ./evidence && tenure audit verify ./evidence --key log.vkey",
		RunE: c.run(func(s *session) error {
			stream, err := s.audit.Export(s.ctx, &auditv1.ExportRequest{})
			if err != nil {
				return err
			}
			dir := s.args[0]
			var export *evidence.Export
			err = s.receive(stream, exportSink{
				begin: func(vkey string) (err error) {
					export, err = evidence.NewExport(dir, vkey)
					return err
				},
				checkpoint: func(note string) error { return export.Checkpoint(checkpointSize(note), note) },
				leaf:       func(l *auditv1.Leaf) error { return export.Leaf(l.GetData()) },
				hash:       func(h *auditv1.StoredHash) error { return export.Hash(h.GetHash()) },
			})
			if export != nil {
				if closed := export.Close(); err == nil {
					err = closed
				}
			}
			if err != nil {
				return fmt.Errorf("export to %s (what is there is not complete): %w", dir, err)
			}
			if s.out.json {
				return s.out.document(text("dir", dir))
			}
			s.out.line("exported to %s; check it: tenure audit verify %s", dir, dir)
			return nil
		}),
	}
}

// checkpointSize is the size line of a signed checkpoint, for the name of its file.
func checkpointSize(note string) int64 {
	lines := strings.SplitN(note, "\n", 3)
	if len(lines) < 3 {
		return 0
	}
	size, _ := strconv.ParseInt(lines[1], 10, 64) // what is no size is found by the verifier
	return size
}

// exportSink is what becomes of an export's parts as they stream by.
type exportSink struct {
	begin      func(vkey string) error
	checkpoint func(note string) error
	leaf       func(*auditv1.Leaf) error
	hash       func(*auditv1.StoredHash) error
}

// receive hands the parts of an export to the sink, with a progress bar.
func (s *session) receive(stream interface {
	Recv() (*auditv1.ExportResponse, error)
}, sink exportSink,
) error {
	var bar *progressbar.ProgressBar
	for {
		msg, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // gRPC returns io.EOF itself
			if bar == nil {
				return fault.New(fault.Unavailable, "the export was empty")
			}
			return bar.Finish()
		}
		if err != nil {
			return err
		}
		if bar == nil {
			bar = progressbar.NewOptions64(int64(msg.GetSize()), progressbar.OptionSetWriter(s.progress), //nolint:gosec // a count
				progressbar.OptionSetDescription("entries"), progressbar.OptionClearOnFinish())
			if err := sink.begin(msg.GetVerifierKey()); err != nil {
				return err
			}
		}
		for _, note := range msg.GetCheckpoints() {
			if err := sink.checkpoint(note); err != nil {
				return err
			}
		}
		for _, leaf := range msg.GetLeaves() {
			if err := sink.leaf(leaf); err != nil {
				return err
			}
		}
		for _, hash := range msg.GetHashes() {
			if err := sink.hash(hash); err != nil {
				return err
			}
		}
		_ = bar.Add(len(msg.GetLeaves())) // a bar that cannot be drawn is no failure
	}
}

func newAuditVerify(c *client) *cobra.Command {
	var keyFile string
	var checkpointFiles []string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check that the record was not edited: an export, offline, or the running log",
		Long: `Verify recomputes the tree from every leaf and compares it with every signed checkpoint and every stored hash. With DIR it
needs nothing but the export and the verifier key. Bring your own key (--key), and checkpoints that you kept from before
(--checkpoint): they convict whoever rewrote the log and signed it again.`,
		Example: "  tenure audit verify\n  tenure audit verify ./evidence --key log.vkey --checkpoint held-elsewhere.checkpoint",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := newPrinter(cmd.OutOrStdout(), c.format)
		if err != nil {
			return err
		}
		key, held, err := readHeld(keyFile, checkpointFiles)
		if err != nil {
			return err
		}
		var report evidence.Report
		if len(args) == 1 {
			report, err = evidence.VerifyDir(args[0], key, held...)
		} else {
			err = c.run(func(s *session) (err error) {
				report, err = s.verifyRunning(key, held)
				return err
			})(cmd, args)
		}
		if err != nil {
			return fmt.Errorf("NOT VERIFIED: %w", err)
		}
		return printReport(out, report, key != "")
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with your own copy of the log's verifier key")
	cmd.Flags().StringArrayVar(&checkpointFiles, "checkpoint", nil, "file with a checkpoint that you kept from before (may be repeated)")
	return cmd
}

func readHeld(keyFile string, checkpointFiles []string) (key string, held []string, err error) {
	if keyFile != "" {
		raw, err := os.ReadFile(keyFile) //nolint:gosec // the file the user named
		if err != nil {
			return "", nil, fault.New(fault.Usage, "%v", err)
		}
		key = strings.TrimSpace(string(raw))
	}
	for _, name := range checkpointFiles {
		raw, err := os.ReadFile(name) //nolint:gosec // the file the user named
		if err != nil {
			return "", nil, fault.New(fault.Usage, "%v", err)
		}
		held = append(held, string(raw))
	}
	return key, held, nil
}

// verifyRunning verifies the log of a running Tenure as it streams by. All checkpoints come before the first leaf.
func (s *session) verifyRunning(key string, held []string) (evidence.Report, error) {
	stream, err := s.audit.Export(s.ctx, &auditv1.ExportRequest{})
	if err != nil {
		return evidence.Report{}, err
	}
	var v *evidence.Verifier
	notes := held
	ready := func() error {
		if v != nil {
			return nil
		}
		v, err = evidence.NewVerifier(key, notes...)
		return err
	}
	err = s.receive(stream, exportSink{
		begin: func(vkey string) error {
			if key == "" {
				key = vkey
			}
			return nil
		},
		checkpoint: func(note string) error { notes = append(notes, note); return nil },
		leaf: func(l *auditv1.Leaf) error {
			if err := ready(); err != nil {
				return err
			}
			return v.Leaf(l.GetIndex(), l.GetData())
		},
		hash: func(h *auditv1.StoredHash) error { return v.Hash(h.GetIndex(), h.GetHash()) },
	})
	if err != nil {
		return evidence.Report{}, err
	}
	if err := ready(); err != nil {
		return evidence.Report{}, err
	}
	return v.Report()
}

func printReport(out *printer, r evidence.Report, ownKey bool) error {
	if out.json {
		raw, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write json: %w", err)
		}
		out.line("%s", raw)
	} else {
		out.line("verified: %d entries of %s are what was signed, by %d checkpoints", r.Leaves, clean(r.Origin), r.Checkpoints)
		origins := make([]string, 0, len(r.Origins))
		for origin := range r.Origins {
			origins = append(origins, origin)
		}
		sort.Strings(origins)
		for _, origin := range origins {
			out.line("  %-24s events 1 to %d, none missing", clean(origin), r.Origins[origin])
		}
		if r.Beyond > 0 {
			out.line("%d entries after the newest checkpoint are not proven: nobody signed for them yet", r.Beyond)
		}
		if !ownKey {
			out.line("the key was the log's own word: bring your own copy with --key to know whose log it is")
		}
	}
	if len(r.Missing) > 0 {
		return fault.New(fault.Internal, "events are missing: %v", r.Missing)
	}
	return nil
}

// text is a named string of a JSON document.
func text(name, value string) part {
	return part{name, func() (json.RawMessage, error) { return json.Marshal(value) }}
}
