package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/tenurehq/tenure/services/promises/race"
	"github.com/tenurehq/tenure/services/promises/table"
)

// tryRace searches the leaver race whole: the designs that are broken must be found to be, the others not.
func tryRace(_ context.Context, _ size, out io.Writer) ([]table.Row, error) {
	r := table.Row{Promise: "P4", Tried: "every order of the leaver race"}
	var caught []string
	for _, d := range race.Designs() {
		result := d.Search()
		if !d.Broken() {
			r.N += result.States
			if r.Violations += result.Bad; result.Bad > 0 {
				fmt.Fprintf(out, "design %s leaves a leaver with access:\n%s\n", d.Name, strings.Join(result.Story, "\n"))
			}
			continue
		}
		r.SeededTotal++
		if result.Bad > 0 {
			r.SeededKilled++
			caught = append(caught, d.Name)
		}
	}
	r.Figure = fmt.Sprintf("%d states; caught %s", r.N, strings.Join(caught, " "))
	return []table.Row{r}, nil
}
