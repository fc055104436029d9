//go:build crashpoints

package crash

import (
	"os"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled says whether this program can die at its points.
const Enabled = true

// Place is a place in the code with points.
type Place struct{ name string }

// platform are the packages whose functions do not name a place: who called them does.
const platform = "github.com/tenurehq/tenure/pkg/"

// begins are the functions that begin every transaction, of a service's store and of the platform: who called them names the
// place.
var begins = regexp.MustCompile(`(/store\.\(\*Store\)|/sqldb\.\(\*DB\))\.InTx$`)

const module = "github.com/tenurehq/tenure/"

// closures of a function belong to it; their numbers change with every edit.
var closures = regexp.MustCompile(`(\.func\d+|\.gowrap\d+|\.\d+|-range\d+)+$`)

// At is the place in the calling service's code, within what is named by where.
func At(where string) Place {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	first := ""
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, module) && !begins.MatchString(frame.Function) {
			if first == "" {
				first = frame.Function
			}
			if !strings.HasPrefix(frame.Function, platform) {
				return Place{where + " " + function(frame.Function)}
			}
		}
		if !more { // a goroutine of the platform's own
			return Place{where + " " + function(first)}
		}
	}
}

// function is a function's name without its module.
func function(name string) string { return closures.ReplaceAllString(path.Base(name), "") }

var reached struct {
	sync.Mutex
	times map[string]int
}

// Reach dies at the point of this place, or does nothing.
func (p Place) Reach(step string) {
	name := p.name + ": " + step
	reached.Lock()
	defer reached.Unlock()
	if reached.times == nil {
		reached.times = map[string]int{}
	}
	reached.times[name]++
	if list := os.Getenv(EnvList); list != "" {
		file, err := os.OpenFile(list, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = file.WriteString(name + "\n")
		}
		if err != nil {
			panic(err)
		}
		_ = file.Close()
	}
	if os.Getenv(EnvPoint) == name+"#"+strconv.Itoa(reached.times[name]) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing more happens here
	}
}
