package brake

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Cause is what led to a removal, as far as it can be had in common with others.
type Cause struct {
	Kind     string // of the lifecycle event, or: model, drift, dormancy, credential
	Field    string // that changed, when it was one
	From, To string // its values; for people's eyes
	Source   string // of the fact
	Delivery string // that said it
}

// Cluster is a cause with how many of the held removals it explains.
type Cluster struct {
	Cause  Cause
	People int // that it explains
	Of     int // that are held
}

// Clusters groups removals by cause, the greatest first. A delivery that explains only one person is left out of the
// cause, so that many webhooks which all say the same count together.
func Clusters(removals []Removal) []Cluster {
	perDelivery := map[Cause]int{}
	for _, r := range removals {
		perDelivery[r.Cause]++
	}
	count := map[Cause]int{}
	for _, r := range removals {
		cause := r.Cause
		if perDelivery[cause] == 1 {
			cause.Delivery = ""
		}
		count[cause]++
	}
	clusters := make([]Cluster, 0, len(count))
	for cause, n := range count {
		clusters = append(clusters, Cluster{Cause: cause, People: n, Of: len(removals)})
	}
	slices.SortFunc(clusters, func(a, b Cluster) int {
		return cmp.Or(cmp.Compare(b.People, a.People), strings.Compare(a.Cause.words(), b.Cause.words()))
	})
	return clusters
}

// String tells it in words: "412 of 415: department d005 → empty, delivery 88".
func (c Cluster) String() string {
	return fmt.Sprintf("%d of %d: %s", c.People, c.Of, c.Cause.words())
}

func (c Cause) words() string {
	words := c.Kind
	if c.Field != "" {
		words = fmt.Sprintf("%s %s → %s", c.Field, cmp.Or(c.From, "empty"), cmp.Or(c.To, "empty"))
	}
	switch {
	case c.Delivery != "":
		words += ", delivery " + c.Delivery
	case c.Source != "":
		words += ", source " + c.Source
	}
	return words
}
