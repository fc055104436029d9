package run

import (
	"bytes"
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// garbage is how much of it may gather before it is collected, in percent of what is alive. Collecting costs, for each
	// allocated byte, the work of marking what is alive over this: Go's own 100 doubles what it costs here, and saves memory.
	garbage = 200
	// One share of so many is what Go may fill of the memory there is: near it garbage is collected as often as it takes. The rest
	// is for others, for SQLite's caches, which Go does not count, and for the kernel's, without which databases are slow.
	shares = 2
)

// giveRoom lets garbage gather. GOGC and GOMEMLIMIT, Go's own settings, come first.
func giveRoom(getenv func(string) string, root fs.FS) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if memory := available(root); getenv("GOMEMLIMIT") == "" && memory != math.MaxInt64 {
		debug.SetMemoryLimit(memory / shares)
	}
}

// available is the memory that the process may use, in bytes: the machine's, or less by a control group that it is
// in. Where it cannot be known it is math.MaxInt64.
func available(root fs.FS) int64 {
	least := machine(root)
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(groups)) { // ID:CONTROLLERS:PATH; of version 2 no controllers are named
		_, group, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(group, ":")
		switch controllers {
		case "":
			least = min(least, limit(root, "sys/fs/cgroup", group, "memory.max"))
		case "memory":
			least = min(least, limit(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return least
}

// limit is the least that file says of group and those above it. In a container the mount may begin at the group itself, whose
// path is not there then: what is missing limits nothing.
func limit(root fs.FS, mount, group, file string) int64 {
	least := int64(math.MaxInt64)
	for group = path.Join("/", group); ; group = path.Dir(group) {
		text, err := fs.ReadFile(root, path.Join(mount, group, file))
		if n, wrong := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && wrong == nil && n > 0 { // or it is "max"
			least = min(least, n)
		}
		if group == "/" {
			return least
		}
	}
}

// machine is all of the machine's memory.
func machine(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return math.MaxInt64
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "MemTotal:" {
			continue
		}
		if kB, err := strconv.ParseInt(fields[1], 10, 64); err == nil && kB > 0 {
			return kB << 10
		}
	}
	return math.MaxInt64
}
