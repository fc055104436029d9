// Command hr-ingest takes what HR systems say and publishes what it means.
package main

import (
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
)

func main() { run.Main(process.One("hr-ingest", "ingest", (*process.Process).Ingest, nil)) }
