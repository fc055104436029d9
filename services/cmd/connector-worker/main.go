// Command connector-worker makes applications hold what people should have: all of them, or those named by --app.
package main

import (
	"context"
	"flag"

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
)

func main() {
	var apps []string
	add := func(p *process.Process, ctx context.Context) error { return p.Provision(ctx, apps...) }
	run.Main(process.One("connector-worker", "provision", add, func(flags *flag.FlagSet) {
		flags.Func("app", "only this `application`; may be repeated", func(name string) error {
			apps = append(apps, name)
			return nil
		})
	}))
}
