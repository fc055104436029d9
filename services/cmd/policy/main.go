// Command policy decides what people should have.
package main

import (
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
)

func main() { run.Main(process.One("policy", "policy", (*process.Process).Policy, nil)) }
