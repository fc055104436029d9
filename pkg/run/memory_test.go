package run_test

import (
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tenurehq/tenure/pkg/run"
)

func TestAProcessMayUseWhatTheMachineAndItsGroupsAllow(t *testing.T) {
	t.Parallel()
	const (
		meminfo = "proc/meminfo"
		groups  = "proc/self/cgroup"
		machine = "MemFree:  1 kB\nMemTotal:       2048 kB\nHugePagesize:  7 kB\n"
		v2      = "0::/system.slice/tenure.service\n"
		service = "sys/fs/cgroup/system.slice/tenure.service/memory.max"
		slice   = "sys/fs/cgroup/system.slice/memory.max"
	)
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing is known":             {map[string]string{}, math.MaxInt64},
		"a machine":                    {map[string]string{meminfo: machine}, 2 << 20},
		"a machine that says nonsense": {map[string]string{meminfo: "MemTotal: much kB\n"}, math.MaxInt64},
		"a group without a limit":      {map[string]string{meminfo: machine, groups: v2, service: "max\n"}, 2 << 20},
		"a group with more than there is": {
			map[string]string{meminfo: machine, groups: v2, service: "9223372036854771712\n"}, 2 << 20,
		},
		"a group":                   {map[string]string{meminfo: machine, groups: v2, service: "1048576\n"}, 1 << 20},
		"the group above is less":   {map[string]string{meminfo: machine, groups: v2, service: "1048576\n", slice: "4096\n"}, 4096},
		"a container":               {map[string]string{meminfo: machine, groups: "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20},
		"a container's outer path":  {map[string]string{meminfo: machine, groups: "0::/../../a\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20},
		"an unknown machine":        {map[string]string{groups: v2, service: "1048576\n"}, 1 << 20},
		"version 1":                 {map[string]string{meminfo: machine, groups: "5:cpu:/a\n4:memory:/docker/1\n", "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "4096\n"}, 4096},
		"version 1 in a container":  {map[string]string{meminfo: machine, groups: "4:memory:/docker/1\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"}, 4096},
		"another controller's path": {map[string]string{meminfo: machine, groups: "5:cpu:/a\n", "sys/fs/cgroup/a/memory.max": "4096\n"}, 2 << 20},
	} {
		root := fstest.MapFS{}
		for path, text := range test.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := run.Available(root); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}

func TestGarbageHasRoomUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells how much memory there is")
	}
	without := []string{}
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "GOGC=") && !strings.HasPrefix(setting, "GOMEMLIMIT=") {
			without = append(without, setting)
		}
	}
	says := func(settings ...string) string {
		cmd, stderr := child(t, "memory")
		cmd.Env = append(append(without, "RUN_TEST_MAIN=memory"), settings...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err, stderr)
		}
		return string(out)
	}
	if got := says("GOGC=50", "GOMEMLIMIT=1GiB"); got != "50 % 1073741824 bytes\n" {
		t.Errorf("by the environment: %q", got)
	}
	if got := says(); strings.HasPrefix(got, "100 %") || strings.Contains(got, "9223372036854775807") {
		t.Errorf("by itself: %q", got)
	}
}
