// Command audit-sink records every event in a log that nobody can quietly change.
package main

import (
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
)

func main() { run.Main(process.One("audit-sink", "audit", (*process.Process).Audit, nil)) }
