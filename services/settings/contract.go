package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/roster"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Contract is what must be true of a source's roster before anything of it is taken in. What is left out is as in
// roster.Default.
type Contract struct {
	MinRows      *Rows            `yaml:"min_rows"`      // a number, or a share of the rows of the last roster
	MaxRows      *Rows            `yaml:"max_rows"`      // the same
	KeyStability *Share           `yaml:"key_stability"` // of those employed by what is known
	NullRate     map[string]Share `yaml:"null_rate"`     // by field, how many may say nothing
	Freshness    time.Duration    `yaml:"freshness"`     // how old the newest may be; 0s: any age
}

// Rows is a number of rows or a share, like 500 or 80%.
type Rows roster.Bound

// UnmarshalConfig implements the hook of package config.
func (r *Rows) UnmarshalConfig(s config.Section) error {
	var said any
	if err := s.Decode(&said); err != nil {
		return err
	}
	bound, err := roster.ParseBound(fmt.Sprint(said))
	if err != nil {
		return s.Errorf("", "%v is %v", said, err)
	}
	*r = Rows(bound)
	return nil
}

// Share is one like 2% or 0.5%.
type Share roster.Share

// UnmarshalConfig implements the hook of package config.
func (sh *Share) UnmarshalConfig(s config.Section) error {
	var said any
	if err := s.Decode(&said); err != nil {
		return err
	}
	share, err := roster.ParseShare(fmt.Sprint(said))
	if err != nil {
		return s.Errorf("", "%v is %v", said, err)
	}
	*sh = Share(share)
	return nil
}

// contract checks what ParseBound and ParseShare cannot.
func (s *Settings) contract(key string, src Source) error {
	c := src.Contract
	if c == nil {
		return nil
	}
	if src.Kind == ingest.KindManual {
		return s.Errorf(key, "operators' own words are no roster")
	}
	for _, field := range slices.Sorted(maps.Keys(c.NullRate)) {
		if !slices.Contains(timeline.FieldNames(), field) && !strings.HasPrefix(field, "attributes.") {
			return s.Errorf(key+".null_rate."+field, "no field of a record: there are %s and attributes.<name>", strings.Join(timeline.FieldNames(), ", "))
		}
		if c.NullRate[field] > 100*Share(roster.Percent) {
			return s.Errorf(key+".null_rate."+field, "more than all")
		}
	}
	if c.KeyStability != nil && *c.KeyStability > 100*Share(roster.Percent) {
		return s.Errorf(key+".key_stability", "more than all")
	}
	if c.Freshness < 0 {
		return s.Errorf(key+".freshness", "less than nothing")
	}
	return nil
}

// agreed is the contract as ingest takes it; nil: nothing is said of one.
func (c *Contract) agreed() *roster.Contract {
	if c == nil {
		return nil
	}
	agreed := roster.Default()
	if c.MinRows != nil {
		agreed.MinRows = roster.Bound(*c.MinRows)
	}
	if c.MaxRows != nil {
		agreed.MaxRows = roster.Bound(*c.MaxRows)
	}
	if c.KeyStability != nil {
		agreed.KeyStability = roster.Share(*c.KeyStability)
	}
	agreed.Freshness = c.Freshness
	for field, share := range c.NullRate {
		if agreed.NullRate == nil {
			agreed.NullRate = make(map[string]roster.Share, len(c.NullRate))
		}
		agreed.NullRate[field] = roster.Share(share)
	}
	return &agreed
}
