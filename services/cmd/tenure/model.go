package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
)

// maxModelBytes bounds what a model directory may hold.
const maxModelBytes = 4 << 20

func newModel(c *client) *cobra.Command {
	return group("model", "The role model: check, test, compare, apply", newModelCheck(), newModelTest(), newModelDiff(c), newModelApply(c), newModelShow(c))
}

// readModel reads the YAML files of a directory, sorted by name.
func readModel(dir string) ([]*accessv1.ModelFile, error) {
	root := os.DirFS(dir)
	var files []*accessv1.ModelFile
	total := 0
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ext := filepath.Ext(name); entry.IsDir() || (ext != ".yaml" && ext != ".yml") {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if total += len(content); total > maxModelBytes {
			return fmt.Errorf("more than %d bytes of YAML", maxModelBytes)
		}
		files = append(files, &accessv1.ModelFile{Name: name, Content: content})
		return nil
	})
	if err != nil {
		return nil, fault.New(fault.Usage, "read the model in %s: %v", dir, err)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Usage, "no .yaml files in %s", dir)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].GetName() < files[j].GetName() })
	return files, nil
}

func newModelDiff(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "diff DIR", Short: "Who would gain and lose what; nothing is changed", Example: "  tenure model diff ./model", Args: cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			files, err := readModel(s.args[0])
			if err != nil {
				return err
			}
			diff, err := s.diff(files)
			if err != nil {
				return err
			}
			return diff.print(s.out)
		}),
	}
}

// modelDiff is the answer of DiffModel, gathered.
type modelDiff struct {
	people  []*accessv1.PersonDiff
	summary *accessv1.DiffModelResponse
}

func (s *session) diff(files []*accessv1.ModelFile) (*modelDiff, error) {
	stream, err := s.access.DiffModel(s.ctx, &accessv1.DiffModelRequest{Files: files})
	if err != nil {
		return nil, err
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(s.progress), progressbar.OptionSetDescription("people"), progressbar.OptionClearOnFinish())
	diff := &modelDiff{}
	err = each(stream, func(m *accessv1.DiffModelResponse) error {
		diff.people = append(diff.people, m.GetDiffs()...)
		bar.ChangeMax64(int64(m.GetPeopleTotal())) //nolint:gosec // a count of people
		_ = bar.Set64(int64(m.GetPeopleDone()))    //nolint:gosec // a count of people
		if m.GetDone() {
			diff.summary = m
		}
		return nil
	})
	_ = bar.Finish()
	if err != nil {
		return nil, err
	}
	if diff.summary == nil {
		return nil, fault.New(fault.Unavailable, "the comparison ended early; try again")
	}
	return diff, nil
}

func (d *modelDiff) print(out *printer) error {
	if out.json {
		return out.document(many("people", d.people), one("summary", d.summary))
	}
	rows := make([][]string, 0, len(d.people))
	for _, p := range d.people {
		rows = append(rows, []string{p.GetUserName(), refs("+", p.GetGains()), refs("-", p.GetLoses())})
	}
	if len(rows) > 0 {
		if err := out.table([]string{"PERSON", "GAINS", "LOSES"}, rows); err != nil {
			return err
		}
	}
	for _, w := range d.summary.GetWarnings() {
		out.line("warning: %s", clean(w))
	}
	out.line("%d people gain, %d lose, compared with model %d", d.summary.GetGaining(), d.summary.GetLosing(), d.summary.GetBaseSeq())
	if held := d.summary.GetHeld(); held > 0 {
		out.line("the brake would hold %d people: two operators release them (tenure holds list)", held)
	}
	return nil
}

func refs(sign string, list []*accessv1.EntitlementRef) string {
	parts := make([]string, 0, len(list))
	for _, r := range list {
		what := r.GetEntitlement()
		if what == "" {
			what = "account"
		}
		parts = append(parts, sign+r.GetApplication()+"/"+what)
	}
	return strings.Join(parts, " ")
}

func newModelApply(c *client) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "apply DIR",
		Short: "Make a model take effect, after showing who gains and loses what",
		Long: `Apply compares the model with the one in effect, shows who would gain and lose what, asks, and makes it take effect.
A model that does not type-check, or whose tests fail, never replaces the one in effect. Without a terminal, say --yes.`,
		Example: "  tenure model apply ./model\n  tenure model apply ./model --yes -o json",
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			files, err := readModel(s.args[0])
			if err != nil {
				return err
			}
			diff, err := s.diff(files)
			if err != nil {
				return err
			}
			if !s.out.json {
				if err := diff.print(s.out); err != nil {
					return err
				}
			}
			if !yes {
				if err := confirm("apply it?"); err != nil {
					return err
				}
			}
			answer, err := s.access.ApplyModel(s.ctx, &accessv1.ApplyModelRequest{Files: files, BaseSeq: diff.summary.GetBaseSeq()})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(one("applied", answer), many("people", diff.people), one("summary", diff.summary))
			}
			if answer.GetUnchanged() {
				s.out.line("model %d is in effect already", answer.GetModelSeq())
				return nil
			}
			s.out.line("model %d is in effect (sha256 %x)", answer.GetModelSeq(), answer.GetSha256())
			return nil
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks on a terminal; without one nothing is agreed to.
func confirm(question string) error {
	if !terminal(os.Stdin) {
		return fault.New(fault.Refused, "not applied: there is no terminal to ask on; say --yes")
	}
	_, _ = fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // an unread answer is a no
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fault.New(fault.Refused, "not applied")
	}
	return nil
}

func newModelShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "The model in effect", Example: "  tenure model show", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			answer, err := s.access.ShowModel(s.ctx, &accessv1.ShowModelRequest{})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			if answer.GetModelSeq() == 0 {
				s.out.line("no model has been applied: nobody has anything. Apply one: tenure model apply DIR")
				return nil
			}
			s.out.line("model %d, sha256 %x, applied %s by %s", answer.GetModelSeq(), answer.GetSha256(), when(answer.GetAppliedAt()), answer.GetAppliedBy())
			for _, f := range answer.GetFiles() {
				s.out.line("\n# %s\n%s", clean(f.GetName()), cleanLines(string(f.GetContent())))
			}
			return nil
		}),
	}
}
