package username

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// ascii writes a text in lower-case ASCII as well as letters alone tell: accents go, letters that are no accented Latin
// ones are spelled out, and what has no spelling here (Chinese, Arabic, …) is left out.
func ascii(text string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(strings.ToLower(text)) {
		switch {
		case r < unicode.MaxASCII:
			b.WriteRune(unicode.ToLower(r)) // compatibility forms may decompose to capitals
		case unicode.Is(unicode.Mn, r):
		default:
			b.WriteString(spelled(unicode.ToLower(r)))
		}
	}
	return b.String()
}

// spelled is a lower-case letter without accents in ASCII; "" when it has no spelling here. Cyrillic and Greek are as
// passports have them (ICAO 9303, ISO 843), which is what people have on their cards.
func spelled(r rune) string {
	const (
		cyrillic = "абвгдежзийклмнопрстуфхцчшщъыьэюяєіїґђјљњћџѓќѕў"
		greek    = "αβγδεζηθικλμνξοπρσςτυφχψω"
	)
	switch {
	case strings.ContainsRune(cyrillic, r):
		return nth(cyrillic, r, "a b v g d e zh z i i k l m n o p r s t u f kh ts ch sh shch ie y - e iu ia ie i i g d j lj nj c dz g k dz u")
	case strings.ContainsRune(greek, r):
		return nth(greek, r, "a v g d e z i th i k l m n x o p r s s t y f ch ps o")
	}
	switch r {
	case 'ß':
		return "ss"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'þ':
		return "th"
	case 'ø':
		return "o"
	case 'ł':
		return "l"
	case 'đ', 'ð':
		return "d"
	case 'ħ':
		return "h"
	case 'ı':
		return "i"
	case 'ĸ', 'ƙ':
		return "k"
	case 'ŋ', 'ɲ':
		return "n"
	case 'ŧ':
		return "t"
	case 'ə', 'ɛ':
		return "e"
	case 'ɓ':
		return "b"
	case 'ɗ':
		return "d"
	case 'ƴ':
		return "y"
	case '‐', '‑', '–': // hyphens of typography
		return "-"
	}
	return ""
}

// nth is the spelling at the letter's place in its alphabet; "-" spells nothing.
func nth(alphabet string, r rune, spellings string) string {
	place := len([]rune(alphabet[:strings.IndexRune(alphabet, r)]))
	if s := strings.Fields(spellings)[place]; s != "-" {
		return s
	}
	return ""
}
