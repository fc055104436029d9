package source

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// maxRosterID is the greatest length of a roster's id, in bytes.
const maxRosterID = 200

// roster reads which part of which roster a batch is; nil: it is none. Held is what is wrong with it.
func roster(v jsontext.Value) (r *Roster, held string) {
	if v == nil {
		return nil, ""
	}
	in, ok := members(v)
	if !ok {
		return nil, "not an object"
	}
	for _, m := range in {
		switch m.key {
		case "id", "part", "parts", "total":
		default:
			return nil, "unknown key " + Key(m.key)
		}
	}
	r = &Roster{}
	r.ID, ok = text(value(in, "id"))
	if !ok || r.ID == "" || len(r.ID) > maxRosterID || strings.ContainsFunc(r.ID, unprintable) {
		return nil, "id: not a text of 1 to " + strconv.Itoa(maxRosterID) + " printable bytes"
	}
	for _, number := range []struct {
		key         string
		least, most int
		into        *int
	}{
		{"parts", 1, MaxParts, &r.Parts}, {"part", 1, MaxParts, &r.Part}, {"total", 0, MaxParts * MaxItems, &r.Total},
	} {
		n, err := strconv.Atoi(string(value(in, number.key)))
		if err != nil || n < number.least || n > number.most {
			return nil, number.key + ": not a whole number from " + strconv.Itoa(number.least) + " to " + strconv.Itoa(number.most)
		}
		*number.into = n
	}
	if r.Part > r.Parts {
		return nil, "part: greater than parts"
	}
	return r, ""
}

func unprintable(r rune) bool { return !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) }
