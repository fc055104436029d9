package vendorapi

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Text is a JSON string's, or a whole number's digits: vendors write ids both ways. False: it is neither.
func Text(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case jsontext.KindString:
		out, err := jsontext.AppendUnquote(nil, v)
		return string(out), err == nil
	case jsontext.KindNumber:
		_, err := strconv.ParseUint(string(v), 10, 64)
		return string(v), err == nil
	default:
		return "", false
	}
}
