// Command demo-application is one demo application as a process of its own, with its connector: what the workers of
// several processes reach by `connector: remote`. Its journal can be held by one process only.
//
//	demo-application -c wiki.yaml -address unix:/run/wiki.sock -journal wiki.journal -show 127.0.0.1:8090
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/connectors/demo"
)

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo-application", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("c", "", "the `file` with what stands below config: of an application with connector: demo")
	address := flags.String("address", "", "the unix:/path where workers reach the connector; default $"+connector.ListenEnv)
	journal := flags.String("journal", "", "the `file` that holds everything")
	show := flags.String("show", "", "the loopback `host:port` of the HTTP listing; default none")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		var usage strings.Builder
		flags.SetOutput(&usage)
		flags.PrintDefaults()
		return fault.New(fault.Usage, "demo-application: flags only: %v\n%s", err, usage.String())
	}
	cfg, err := load(*file)
	if err != nil {
		return fault.New(fault.Invalid, "%s: %w", *file, err)
	}
	cfg.File, cfg.Listen = *journal, *show
	application, err := demo.Open(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(connector.Serve(ctx, *address, application, nil), application.Close())
}

// load reads a configuration with the keys that the built-in connector has.
func load(file string) (cfg demo.Config, err error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return cfg, err
	}
	inJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return cfg, fmt.Errorf("not YAML: %w", err)
	}
	strict := json.NewDecoder(bytes.NewReader(inJSON))
	strict.DisallowUnknownFields()
	return cfg, strict.Decode(&cfg)
}
