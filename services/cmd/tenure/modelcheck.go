package main

import (
	"encoding/json"
	"fmt"
	"os"

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

func newModelCheck() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "check DIR", Short: "Check a model's form and types, offline", Args: cobra.ExactArgs(1),
		Example: "  tenure model check ./model\n  tenure model check ./model -c tenure.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := loadModel(args[0], configFile)
			if err != nil {
				return err
			}
			digest := m.Digest()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d roles, sha256 %x\n", m.Roles(), digest[:])
			for _, ref := range m.Unclassified() {
				_, _ = fmt.Fprintf(os.Stderr, "warning: %s is not in the catalogue: unclassified\n", ref)
			}
			return err
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
			m, err := loadModel(args[0], configFile)
			if err != nil {
				return err
			}
			format, _ := cmd.Flags().GetString("output") // an inherited flag that is always there
			out, err := newPrinter(cmd.OutOrStdout(), format)
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
			var results []result
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
