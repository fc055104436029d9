// Package sqltext cuts SQL into tokens: enough to tell names and keywords from strings and comments.
package sqltext

import "strings"

// Next cuts the first token off text, which must not be empty: a word (letters, digits, _), a string, a quoted name, a
// comment, or one other character. A string with a doubled quote inside comes as two tokens.
func Next(text string) string {
	switch {
	case strings.HasPrefix(text, "--"):
		return through(text, "\n", 2)
	case strings.HasPrefix(text, "/*"):
		return through(text, "*/", 2)
	case text[0] == '\'', text[0] == '"':
		return through(text, text[:1], 1)
	}
	n := 0
	for n < len(text) && wordByte(text[n]) {
		n++
	}
	return text[:max(n, 1)]
}

// through returns text up to and with the first end after from; all of it when there is none.
func through(text, end string, from int) string {
	if at := strings.Index(text[from:], end); at >= 0 {
		return text[:from+at+len(end)]
	}
	return text
}

// IsWord reports whether token is a word.
func IsWord(token string) bool { return wordByte(token[0]) }

func wordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
