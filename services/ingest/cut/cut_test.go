package cut_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/ingest/cut"
)

func open(t *testing.T, file string) *cut.Key {
	t.Helper()
	key, err := cut.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheKeyIsMadeOnceAndKeptFromOthers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "not", "there", "cuts.key")
	first := open(t, file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if again := open(t, file); !again.Public().Equal(first.Public()) {
		t.Error("at the next start there is another key")
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, wrong := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"open to everybody": {string(content), 0o644},
		"too short":         {base64.StdEncoding.EncodeToString([]byte("short")) + "\n", 0o600},
		"no base64":         {"…\n", 0o600},
		"empty":             {"", 0o600},
	} {
		path := filepath.Join(t.TempDir(), "cuts.key")
		if err := os.WriteFile(path, []byte(wrong.content), wrong.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := cut.Open(path); err == nil || strings.Contains(err.Error(), strings.TrimSpace(string(content))) {
			t.Errorf("a key %s: %v, want it refused and not shown", what, err)
		}
	}
}

func TestOnlyWhatIngestSignedCountsAsSigned(t *testing.T) {
	t.Parallel()
	key, other := open(t, filepath.Join(t.TempDir(), "a")), open(t, filepath.Join(t.TempDir(), "b"))
	event := &eventv1.Lifecycle{PersonId: "ann", PersonVersion: 7, Kind: eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, Actor: "operator:ada", Commitment: []byte{1}}
	if cut.Signed(event, key.Public()) {
		t.Error("an event without a signature counts")
	}
	if err := key.Sign(event); err != nil {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	heard := &eventv1.Lifecycle{}
	if err := proto.Unmarshal(wire, heard); err != nil {
		t.Fatal(err)
	}
	if !cut.Signed(heard, key.Public()) {
		t.Error("what was signed does not count")
	}
	if cut.Signed(heard, other.Public()) || cut.Signed(heard, nil) {
		t.Error("it counts by another key, or by none")
	}
	for what, change := range map[string]func(*eventv1.Lifecycle){
		"another person":    func(l *eventv1.Lifecycle) { l.PersonId = "bea" },
		"another version":   func(l *eventv1.Lifecycle) { l.PersonVersion++ },
		"a lift":            func(l *eventv1.Lifecycle) { l.Kind = eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT },
		"a changed bit":     func(l *eventv1.Lifecycle) { l.Signature[0] ^= 1 },
		"no signature":      func(l *eventv1.Lifecycle) { l.Signature = nil },
		"one more field":    func(l *eventv1.Lifecycle) { l.Backdated = true },
		"a short signature": func(l *eventv1.Lifecycle) { l.Signature = l.GetSignature()[:63] },
	} {
		forged := proto.CloneOf(heard)
		change(forged)
		if cut.Signed(forged, key.Public()) {
			t.Errorf("%s made of what was signed counts", what)
		}
	}
}
