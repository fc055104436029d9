// Package model reads a role model: YAML with CEL that says who should have what, and why.
//
// Load checks everything that can be known without people: keys, names, applications, the types and the cost of every
// expression. It reports all that is wrong at once, each with file, line and key. What it returns cannot be changed,
// may be used by any number of goroutines, and gives the same answer for the same person for ever: it has no clock, no
// randomness and no I/O.
//
// An expression can still fail for one person, by asking for an attribute that this person does not have. Then it
// decides nothing: Evaluate reports it, and gives nothing by that role.
package model

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a model.
const (
	maxFiles      = 256
	maxBytes      = 8 << 20 // of all files together
	maxRoles      = 10_000
	maxGrants     = 1_000 // of one role
	maxValues     = 256   // of the for_each of one role, for one person
	maxIdentifier = 512   // bytes of an entitlement
)

// File is one file of a model. Its name is relative and slash separated.
type File struct {
	Name    string
	Content []byte
}

// Entitlement is what the catalogue says about an entitlement.
type Entitlement struct {
	Application string
	ID          string
	Level       string   // e.g. read, write, admin; empty: not said
	Can         []string // of Verbs, sorted
	Privileged  bool
}

// Verbs are what an entitlement can let people do.
var Verbs = [...]string{"approve", "create", "delete", "edit", "export"}

// Grant is one entitlement that one role gives a person. An empty Entitlement is the account alone.
type Grant struct {
	Application string
	Entitlement string
	Role        string
	Bindings    []string // the values of for_each, e.g. d=d005
}

// Role is where a role stands in the model.
type Role struct {
	Name    string
	Members string // CEL, as written
	File    string
	Line    int
}

// Ref names an entitlement of an application.
type Ref struct {
	Application string
	Entitlement string
}

// Model is a checked role model.
type Model struct {
	digest    [sha256.Size]byte
	roles     []role
	byName    map[string]int
	always    []int // roles that no index leads to
	indexes   []index
	catalogue map[Ref]Entitlement
	tests     []test
}

// Load reads and checks a model. The order of the files does not matter. Applications are the names that grants may
// use; nil: any, for a model that was accepted when other applications were configured. The error is Problems.
func Load(files []File, applications []string) (*Model, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if err := checkFiles(files).err(); err != nil {
		return nil, err
	}
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	b := builder{
		language:     l,
		anywhere:     applications == nil,
		applications: applications,
		model: &Model{
			digest:    digest(files),
			byName:    map[string]int{},
			catalogue: map[Ref]Entitlement{},
		},
	}
	for _, f := range files {
		if doc := b.document(f); doc != nil {
			b.file(*doc)
		}
	}
	if len(b.model.roles) == 0 && len(b.problems) == 0 {
		b.problems = append(b.problems, Problem{What: "no role in any file"})
	}
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	b.model.buildIndexes()
	return b.model, nil
}

func checkFiles(files []File) Problems {
	var found Problems
	if len(files) == 0 {
		found = append(found, Problem{What: "no files"})
	}
	if len(files) > maxFiles {
		found = append(found, Problem{What: fmt.Sprintf("%d files, and at most %d are allowed", len(files), maxFiles)})
	}
	total := 0
	for i, f := range files {
		total += len(f.Content)
		ext := path.Ext(f.Name)
		switch {
		case !fs.ValidPath(f.Name) || strings.ContainsFunc(f.Name, unicode.IsControl):
			found = append(found, Problem{What: fmt.Sprintf("file name %q is not relative and slash separated", f.Name)})
		case ext != ".yaml" && ext != ".yml":
			found = append(found, Problem{File: f.Name, What: "is not a .yaml file"})
		case i > 0 && files[i-1].Name == f.Name:
			found = append(found, Problem{File: f.Name, What: "is given twice"})
		case !utf8.Valid(f.Content):
			found = append(found, Problem{File: f.Name, What: "is not UTF-8"})
		}
	}
	if total > maxBytes {
		found = append(found, Problem{What: fmt.Sprintf("%d bytes, and at most %d are allowed", total, maxBytes)})
	}
	return found
}

// digest is over names and contents, each with its length before it.
func digest(files []File) [sha256.Size]byte {
	h := sha256.New()
	write := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, f := range files {
		write([]byte(f.Name))
		write(f.Content)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Digest is the SHA-256 of the model's files: their names and contents, in order of name.
func (m *Model) Digest() [sha256.Size]byte { return m.digest }

// Roles returns how many roles the model has.
func (m *Model) Roles() int { return len(m.roles) }

// Role returns the role with this name.
func (m *Model) Role(name string) (Role, bool) {
	i, ok := m.byName[name]
	if !ok {
		return Role{}, false
	}
	return m.roles[i].place(), true
}

// Entitlement returns what the catalogue says; false: it is unclassified.
func (m *Model) Entitlement(ref Ref) (Entitlement, bool) {
	e, ok := m.catalogue[ref]
	return e, ok
}

// Privileged says whether the catalogue calls an entitlement privileged.
func (m *Model) Privileged(ref Ref) bool { return m.catalogue[ref].Privileged }

// CanGive says whether a role can give an entitlement to anybody at all.
func (m *Model) CanGive(role string, ref Ref) bool {
	i, ok := m.byName[role]
	return ok && m.roles[i].canGive(ref)
}

// Applications returns the names that the model's grants use, sorted.
func (m *Model) Applications() []string {
	var names []string
	for i := range m.roles {
		for _, g := range m.roles[i].grants {
			names = append(names, g.application)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unclassified returns the entitlements that roles give by name and the catalogue does not list, sorted.
func (m *Model) Unclassified() []Ref {
	var found []Ref
	for i := range m.roles {
		for _, g := range m.roles[i].grants {
			ref := Ref{g.application, g.entitlement.literal()}
			if ref.Entitlement == "" {
				continue
			}
			if _, ok := m.catalogue[ref]; !ok {
				found = append(found, ref)
			}
		}
	}
	return sortedRefs(found)
}

var (
	applicationName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	roleName        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	levelName       = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	bindingName     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
)

// checkEntitlement says what is wrong with the id of an entitlement; empty: nothing.
func checkEntitlement(id string) string {
	switch {
	case id == "":
		return "is empty: leave the key out for the account alone"
	case len(id) > maxIdentifier:
		return fmt.Sprintf("is longer than %d bytes", maxIdentifier)
	case strings.TrimSpace(id) != id:
		return "begins or ends with a space"
	case strings.ContainsFunc(id, unicode.IsControl):
		return "has a control character"
	}
	return ""
}
