package config_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
)

type door struct {
	Name    string            `yaml:"name"`
	Open    bool              `yaml:"open"`
	Count   int               `yaml:"count"`
	Small   int8              `yaml:"small"`
	Share   float64           `yaml:"share"`
	Every   time.Duration     `yaml:"every"`
	From    netip.Addr        `yaml:"from"`
	Labels  map[string]string `yaml:"labels"`
	Rest    map[string]any    `yaml:"rest"`
	Lead    *door             `yaml:"lead"`
	Rooms   []door            `yaml:"rooms"`
	Later   config.Section    `yaml:"later"`
	Dir     config.Path       `yaml:"dir"`
	Key     config.SecretFile `yaml:"key_file"`
	Hidden  string            // has no key
	Skipped string            `yaml:"-"`
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tenure.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryTypeIsRead(t *testing.T) {
	t.Parallel()
	path := write(t, `# a comment
name: |
  front
open: true
count: -3
small: 0x7f
share: 2
every: 720h
from: 127.0.0.1
labels: {a.b: x, "404": "1", 405: "2"}
rest: {n: 1, f: 1.5, t: text, b: false, z: null, l: [a, {k: v}]}
lead: {name: lead}
rooms:
  - name: one
    every: 0
  - {name: two}
dir: ./data
key_file: secrets/key
`)
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "secrets", "key"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := door{Hidden: "kept"}
	if err := config.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	if secret := string(got.Key.Reveal()); secret != "s3cret" {
		t.Errorf("secret %q, want s3cret", secret)
	}
	if want := filepath.Join(filepath.Dir(path), "secrets/key"); got.Key.Path != want {
		t.Errorf("the secret's path is %s, want %s: relative to the configuration file", got.Key.Path, want)
	}
	got.Key = config.SecretFile{}
	want := door{
		Name: "front\n", Open: true, Count: -3, Small: 127, Share: 2, Every: 720 * time.Hour, From: netip.MustParseAddr("127.0.0.1"),
		Labels: map[string]string{"a.b": "x", "404": "1", "405": "2"},
		Rest:   map[string]any{"n": uint64(1), "f": 1.5, "t": "text", "b": false, "z": nil, "l": []any{"a", map[string]any{"k": "v"}}},
		Lead:   &door{Name: "lead"}, Rooms: []door{{Name: "one"}, {Name: "two"}}, Hidden: "kept",
		Dir: config.Path(filepath.Join(filepath.Dir(path), "data")),
	}
	opts := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b config.Section) bool { return a.Empty() == b.Empty() }), cmp.Comparer(func(a, b config.SecretFile) bool { return a.Path == b.Path })}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestAbsentAndNullKeysKeepTheirDefaults(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "# nothing\n", "---\n", "count:\nlead: ~\nlabels: null\n"} {
		got := door{Count: 7, Labels: map[string]string{"a": "b"}}
		if err := config.Load(write(t, content), &got); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if got.Count != 7 || got.Labels["a"] != "b" {
			t.Errorf("%q changed the defaults: %+v", content, got)
		}
	}
}

func TestRefusalsNameLineAndKey(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"name: a\nnombre: b":                   "2:nombre: unknown key; there are count, dir, every, from, key_file, labels, later, lead, name, open, rest, rooms, share, small",
		"Hidden: a":                            "1:Hidden: unknown key; there are ",
		"rooms:\n  - name: a\n  - naem: b":     "3:rooms[1].naem: unknown key",
		"name: a\nopen: true\nname: b":         "3:name: the key stands in line 1 already",
		"rest:\n  a: {b: 1,\n      b: 2}":      "3:rest.a.b: the key stands in line 2 already",
		"labels: {1: a, \"1\": b}":             `1:labels.1: the key stands in line 1 already`,
		"name: 007":                            "1:name: want text, not a number: quote it",
		"name: true":                           "1:name: want text, not true or false: quote it",
		"name: [a]":                            "1:name: want text, not a list",
		"labels:\n  x.y: 1":                    `2:labels["x.y"]: want text, not a number: quote it`,
		"open: yes":                            "1:open: want true or false, not text",
		"count: 1.5":                           "1:count: want a whole number, not a number",
		"count: \"1\"":                         "1:count: want a whole number, not text",
		"count: 99999999999999999999":          "1:count: want a whole number, not ",
		"count: 18446744073709551615":          "1:count: 18446744073709551615 is out of range",
		"small: 128":                           "1:small: 128 is out of range",
		"share: half":                          "1:share: want a number, not text",
		"every: 30":                            `1:every: want a duration like "90s", "15m" or "720h", not a number`,
		"every: 30d":                           `1:every: "30d" is no duration`,
		"from: 127.0.0":                        "1:from: ParseAddr(",
		"labels: [a]":                          "1:labels: want keys with values, not a list",
		"lead: a":                              "1:lead: want keys with values, not text",
		"rooms: {name: a}":                     "1:rooms: want a list, not keys with values",
		"rooms:\n- {name: a}\n- text":          "3:rooms[1]: want keys with values, not text",
		"- a":                                  "1: want keys with values, not a list",
		"a: b: c":                              "1: mapping value is not allowed in this context",
		"name: a\n\tcount: 1":                  "2: ",
		"name: \"a":                            "1: could not find end character of double-quoted text",
		"name: a\n---\nname: b":                "3: a second document",
		"name: &x a":                           "1:name: anchors and aliases are not understood",
		"name: *x":                             "1:name: anchors and aliases are not understood",
		"lead: {<<: {name: a}}":                "1:lead: a key must be plain text",
		"name: !!str 1":                        "1:name: tags are not understood",
		"%YAML 1.2\n---\nname: a":              "1: directives are not understood",
		"rest: " + strings.Repeat("[", 70):     "1: nested more than 64 deep",
		"rest:\n  " + strings.Repeat("- ", 70): "2: nested more than 64 deep",
		"name: \xff":                           " not UTF-8 text",
		"# " + strings.Repeat("x", config.MaxSize): " more than 1024 KiB",
	} {
		path := write(t, content)
		err := config.Load(path, new(door))
		if err == nil {
			t.Errorf("%.60q was accepted", content)
			continue
		}
		if !strings.HasPrefix(err.Error(), path+":"+want) {
			t.Errorf("%.60q\n got %s\nwant FILE:%s", content, strings.TrimPrefix(err.Error(), path+":"), want)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: more than one line: %q", content, err)
		}
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.60q: kind %s, want invalid", content, fault.KindOf(err))
		}
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nothing.yaml")
	err := config.Load(path, new(door))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names %s", err, path)
	}
}

func TestSecretFilesThatAreNoSecretAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"missing":           {mode: 0, want: "no such file"},
		"open to the world": {content: "x", mode: 0o604, want: "is open to everybody (mode 0604): chmod 600 it"},
		"empty":             {content: "\n", mode: 0o600, want: "is empty"},
		"large":             {content: strings.Repeat("x", 65<<10), mode: 0o600, want: "is over 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "name: a\nlead:\n  key_file: key\n")
			secret := filepath.Join(filepath.Dir(path), "key")
			if c.mode != 0 {
				if err := os.WriteFile(secret, []byte(c.content), c.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(secret, c.mode); err != nil { // whatever the umask is
					t.Fatal(err)
				}
			}
			err := config.Load(path, new(door))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), path+":3:lead.key_file: ") || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), secret) {
				t.Errorf("got %v\nwant FILE:3:lead.key_file, %s and %q", err, secret, c.want)
			}
		})
	}
	if _, err := config.ReadSecret(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder as a secret: %v", err)
	}
}

func TestSectionsAreReadLaterWithTheirPlace(t *testing.T) {
	t.Parallel()
	path := write(t, "name: a\nrooms:\n  - name: b\n    later:\n      name: c\n      count: x\n")
	var got door
	if err := config.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Later.Empty() || got.Rooms[0].Later.Empty() {
		t.Error("Empty does not tell an absent section")
	}
	if err := got.Later.Decode(&door{}); err != nil {
		t.Errorf("an absent section decodes to %v, want nothing", err)
	}
	err := got.Rooms[0].Later.Decode(new(door))
	if want := path + ":6:rooms[0].later.count: want a whole number, not text"; fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestErrorsPointAtKeys(t *testing.T) {
	t.Parallel()
	path := write(t, `name: a
rooms:
  - {name: b}
  -
    name: c
    labels:
      "x.y": z
      plain: z
    rooms: [
      {name: d}, {name: e},
    ]
`)
	for key, want := range map[string]string{
		"":                         "1: wrong 7",
		"name":                     "1:name: wrong 7",
		"rooms":                    "2:rooms: wrong 7",
		"rooms[0]":                 "3:rooms[0]: wrong 7",
		"rooms[1]":                 "5:rooms[1]: wrong 7",
		`rooms[1].labels["x.y"]`:   `7:rooms[1].labels["x.y"]: wrong 7`,
		"rooms[1].labels.plain":    "8:rooms[1].labels.plain: wrong 7",
		"rooms[1].rooms[1].name":   "10:rooms[1].rooms[1].name: wrong 7",
		"rooms[1].absent":          "5:rooms[1].absent: wrong 7",
		"rooms[1].labels.absent.x": "6:rooms[1].labels.absent.x: wrong 7",
		"rooms[7].name":            "2:rooms[7].name: wrong 7",
		"absent":                   "1:absent: wrong 7",
		"rooms[x].y":               "2:rooms[x].y: wrong 7",
		"rooms[":                   "2:rooms[: wrong 7",
	} {
		err := config.KeyError(path, key, "wrong %d", 7)
		if got := strings.TrimPrefix(err.Error(), path+":"); got != want {
			t.Errorf("%q:\n got %s\nwant %s", key, got, want)
		}
	}
	if got := config.KeyError("gone.yaml", "a.b", "wrong").Error(); got != "gone.yaml:a.b: wrong" {
		t.Errorf("a file that is gone: %s", got)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	holder := struct {
		S config.Secret
		F config.SecretFile
		P *config.Secret
	}{S: config.NewSecret([]byte("hunter2"))}
	holder.F.Secret, holder.P = holder.S, &holder.S
	for name, shown := range encodings(t, holder) {
		if strings.Contains(shown, "hunter2") || strings.Contains(shown, fmt.Sprintf("%x", "hunter2")) || strings.Contains(shown, "104 117 110") {
			t.Errorf("%s shows the secret: %s", name, shown)
		}
	}
	kept := holder.S.Reveal()
	kept[0] = 'X'
	if string(holder.S.Reveal()) != "hunter2" {
		t.Error("a secret can be changed through what Reveal returned")
	}
}

func TestSecretLines(t *testing.T) {
	t.Parallel()
	var got []string
	for _, line := range config.NewSecret([]byte(" new \n\n\told\r\n")).Lines() {
		got = append(got, string(line.Reveal()))
	}
	if diff := cmp.Diff([]string{"new", "old"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if !config.NewSecret(nil).Empty() || config.NewSecret([]byte("x")).Empty() {
		t.Error("Empty is wrong")
	}
}

// Whatever is written, reading ends with a value or one line that begins with the file's name.
func TestAnyTextIsReadOrRefusedInOneLine(t *testing.T) {
	t.Parallel()
	piece := rapid.SampledFrom([]string{"name", "rooms", "lead", "rest", "key_file", ": ", ":", "\n", "\n  ", "- ", "[", "]", "{", "}", ",", "a", "1", "1.5", "true", "null", "~", "'", "\"", "|\n", ">-\n", "#", "&x ", "*x", "!t ", "<<: ", "? ", "%", "---\n", "...\n", "\t", "ü", "\x00", "0x", "9e99", ".inf", ".nan"})
	rapid.Check(t, func(t *rapid.T) {
		content := strings.Join(rapid.SliceOfN(piece, 0, 40).Draw(t, "content"), "")
		whole, err := config.Parse("f.yaml", []byte(content))
		if err == nil {
			err = whole.Decode(new(door))
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "f.yaml:") || strings.Contains(err.Error(), "\n")) {
			t.Fatalf("%q: %q is not one line about the file", content, err)
		}
	})
}
