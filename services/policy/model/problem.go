package model

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing that is wrong with a model, at the place where its author can mend it.
type Problem struct {
	File string // as given to Load; empty when the problem is none of one file
	Line int    // from 1; 0 when unknown
	Key  string // e.g. roles[2].grants[0].app
	What string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(":")
	}
	if p.Key != "" {
		b.WriteString(p.Key)
		b.WriteString(":")
	}
	if b.Len() > 0 {
		b.WriteString(" ")
	}
	b.WriteString(p.What)
	return b.String()
}

// Problems is everything that is wrong with a model, one line each, in order of file and line.
type Problems []Problem

// maxProblems bounds what is reported: somebody who sees this many needs no more.
const maxProblems = 200

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the problems sorted as an error, nil when there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	sort.SliceStable(p, func(i, j int) bool {
		if p[i].File != p[j].File {
			return p[i].File < p[j].File
		}
		return p[i].Line < p[j].Line
	})
	if more := len(p) - maxProblems; more > 0 {
		p = append(p[:maxProblems:maxProblems], Problem{What: fmt.Sprintf("and %d more problems", more)})
	}
	return p
}
