package settings

import (
	"flag"
	"io"
	"strings"

	"github.com/tenurehq/tenure/pkg/fault"
)

// defaultFile is read when the command line names none.
const defaultFile = "tenure.yaml"

// Command reads the command line of a process that is one service, like `hr-ingest -c tenure.yaml [--check]`, and the
// file that it names. more may add flags; nil: there are none. With --check everything in the file is checked, and the
// process should do nothing else.
func Command(process string, args []string, more func(*flag.FlagSet)) (s *Settings, check bool, err error) {
	flags := flag.NewFlagSet(process, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("c", defaultFile, "the configuration `file`")
	flags.BoolVar(&check, "check", false, "only check the configuration file")
	if more != nil {
		more(flags)
	}
	if err := flags.Parse(args); err != nil {
		var usage strings.Builder
		flags.SetOutput(&usage)
		flags.PrintDefaults()
		return nil, false, fault.New(fault.Usage, "%s: %w\n%s", process, err, usage.String())
	}
	if flags.NArg() > 0 {
		return nil, false, fault.New(fault.Usage, "%s: %q: there are no arguments besides flags", process, flags.Arg(0))
	}
	if s, err = Load(*file); err != nil {
		return nil, false, err
	}
	if check {
		return s, true, s.Check()
	}
	return s, false, nil
}
