package brake

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Cause is what led to a change, as far as it can be had in common with others.
type Cause struct {
	Kind     string // of the lifecycle event, or: model, drift, repair
	Field    string // that changed, when it was one
	From, To string // its values; for people's eyes
	Source   string // of the fact
	Delivery string // that said it
}

// Cluster is a cause with how many of the held changes it explains.
type Cluster struct {
	Cause  Cause
	People int // that it explains
	Of     int // that are held
}

// Clusters groups changes by cause, the greatest first. A delivery is named where all of a cluster, and more than one,
// came by it: many webhooks which all say the same count together.
func Clusters(changes []Change) []Cluster {
	type group struct {
		people   int
		delivery string
	}
	groups := map[Cause]group{}
	for _, c := range changes {
		g := groups[c.Cause.Shared()]
		if g.people++; g.people == 1 {
			g.delivery = c.Cause.Delivery
		} else if g.delivery != c.Cause.Delivery {
			g.delivery = ""
		}
		groups[c.Cause.Shared()] = g
	}
	clusters := make([]Cluster, 0, len(groups))
	for cause, g := range groups {
		if g.people > 1 {
			cause.Delivery = g.delivery
		}
		clusters = append(clusters, Cluster{Cause: cause, People: g.people, Of: len(changes)})
	}
	slices.SortFunc(clusters, func(a, b Cluster) int {
		return cmp.Or(cmp.Compare(b.People, a.People), strings.Compare(a.Cause.words(), b.Cause.words()))
	})
	return clusters
}

// Shared is the part of a cause by which changes are grouped: all but the delivery.
func (c Cause) Shared() Cause {
	c.Delivery = ""
	return c
}

// ID names the changes of a cause, whoever joins them: 16 hexadecimal digits.
func (c Cause) ID() string {
	h := sha256.New()
	for _, part := range []string{c.Kind, c.Field, c.From, c.To, c.Source} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
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
