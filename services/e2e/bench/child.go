package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// keeper runs a program until its standard input closes, which it does when the bench is gone, for whatever reason.
const keeper = `
log=$1; shift
"$@" </dev/null >"$log" 2>&1 3>&- &
echo $!
while read -r _; do :; done
kill -INT $! 2>/dev/null
wait $!
`

// child is a program that does not outlive the bench.
type child struct {
	keeper *exec.Cmd
	stop   io.Closer
	pid    int
	log    string
}

// startChild starts a program; it gets a process group of its own, so that a Ctrl-C in the terminal reaches only the
// bench.
func startChild(dir, log string, args ...string) (*child, error) {
	c := &child{log: log}
	// Not CommandContext: it is stopped in order, after those who use it.
	c.keeper = exec.Command("/bin/sh", append([]string{"-c", keeper, "sh", log}, args...)...) //nolint:gosec,noctx // see above
	c.keeper.Dir, c.keeper.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.stop, err = c.keeper.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.keeper.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		c.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", args[0], err), c.close())
	}
	return c, nil
}

// close stops the program and waits until it has ended.
func (c *child) close() error {
	err := c.stop.Close()
	if waited := c.keeper.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("%w\n%s", waited, c.tail()))
	}
	return err
}

// tail is the end of what the program said.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// memory is what the kernel says that the program has resident, in MB: VmRSS now, VmHWM at most.
func (c *child) memory(of string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == of+":" {
			kB, err := strconv.ParseFloat(fields[1], 64)
			return kB / 1024, err
		}
	}
	return 0, fmt.Errorf("the kernel does not tell %s", of)
}
