package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/services/policy/model"
	"github.com/tenurehq/tenure/services/settings"
)

// loadModel reads and checks a model offline. Application names are checked against the configuration file if there
// is one.
func loadModel(dir, configFile string) (*model.Model, error) {
	files, err := readModel(dir)
	if err != nil {
		return nil, err
	}
	var applications []string
	if configFile != "" {
		cfg, err := settings.Load(configFile)
		if err != nil {
			return nil, err
		}
		applications = []string{} // none configured means none may be named
		for _, app := range cfg.Applications {
			applications = append(applications, app.Name)
		}
	}
	content := make([]model.File, 0, len(files))
	for _, f := range files {
		content = append(content, model.File{Name: f.GetName(), Content: f.GetContent()})
	}
	m, err := model.Load(content, applications)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err)
	}
	return m, nil
}

// offline is the printer of a command that needs no connection.
func offline(cmd *cobra.Command) (*printer, error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return nil, err
	}
	return newPrinter(cmd.OutOrStdout(), format)
}

func newModelCheck() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "check DIR", Short: "Check a model's form and types, offline", Args: cobra.ExactArgs(1),
		Example: "  tenure model check ./model\n  tenure model check ./model -c tenure.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := offline(cmd)
			if err != nil {
				return err
			}
			m, err := loadModel(args[0], configFile)
			if err != nil {
				return err
			}
			digest := m.Digest()
			unclassified := []string{}
			for _, ref := range m.Unclassified() {
				unclassified = append(unclassified, ref.String())
			}
			if out.json {
				return out.document(text("sha256", hex.EncodeToString(digest[:])),
					part{"roles", func() (json.RawMessage, error) { return json.Marshal(m.Roles()) }},
					part{"unclassified", func() (json.RawMessage, error) { return json.Marshal(unclassified) }})
			}
			out.line("%d roles, sha256 %x", m.Roles(), digest[:])
			for _, ref := range unclassified {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s is not in the catalogue: unclassified\n", clean(ref))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "", "also check the application names against this configuration file")
	return cmd
}

func newModelTest() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "test DIR", Short: "Run a model's own tests, offline", Example: "  tenure model test ./model", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := offline(cmd)
			if err != nil {
				return err
			}
			m, err := loadModel(args[0], configFile)
			if err != nil {
				return err
			}
			failed := 0
			type result struct {
				Name     string   `json:"name"`
				File     string   `json:"file"`
				Line     int      `json:"line"`
				Passed   bool     `json:"passed"`
				Problems []string `json:"problems"`
			}
			results := []result{}
			for _, r := range m.Test() {
				one := result{Name: r.Name, File: r.File, Line: r.Line, Passed: r.Passed(), Problems: []string{}}
				for _, problem := range r.Problems() {
					one.Problems = append(one.Problems, problem.String())
					if !out.json {
						out.line("FAILED %s", clean(problem.String()))
					}
				}
				if !one.Passed {
					failed++
				}
				results = append(results, one)
			}
			if out.json {
				if err := out.document(part{"tests", func() (json.RawMessage, error) { return json.Marshal(results) }}); err != nil {
					return err
				}
			} else {
				out.line("%d tests, %d failed", len(results), failed)
			}
			if failed > 0 {
				return fault.New(fault.Invalid, "%d of %d tests of the model failed", failed, len(results))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "", "also check the application names against this configuration file")
	return cmd
}
