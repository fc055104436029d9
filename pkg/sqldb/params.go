package sqldb

import (
	"strconv"
	"strings"
)

// anonymous writes the parameters $1, $2, … as ? where that means the same: each once and in order, as Values writes
// them. SQLite looks a parameter's name up in a list of all names, so that binding n named ones costs n² steps; ?
// has no name. Texts that repeat or reorder parameters stay as they are: they are short.
func anonymous(text string) string {
	if !strings.Contains(text, "$1") {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	next := 1
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\'' || c == '"': // a literal or a quoted name: as it is, to its end
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return text
			}
			out.WriteString(text[i : i+end+2])
			i += end + 2
		case c == '-' && strings.HasPrefix(text[i:], "--"), c == '/' && strings.HasPrefix(text[i:], "/*"):
			return text // a comment may hold anything
		case c == '$':
			end := i + 1
			for end < len(text) && text[end] >= '0' && text[end] <= '9' {
				end++
			}
			if text[i+1:end] != strconv.Itoa(next) {
				return text
			}
			next++
			out.WriteByte('?')
			i = end
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String()
}
