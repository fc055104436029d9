// Command console is the front door for operators.
package main

import (
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
)

func main() { run.Main(process.One("console", "console", (*process.Process).Console, nil)) }
