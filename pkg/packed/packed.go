// Package packed keeps many byte strings in one row of a table: one after the other in a column of bytes, and how long
// each is in a column of text, as a JSON array that SQL can read, too. A row and its entries in indexes cost a database
// more than the bytes in it, so what is written together and read together is kept together.
package packed

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Pack returns items one after the other, and their lengths.
func Pack(items [][]byte) (lengths string, data []byte) {
	size := 0
	for _, item := range items {
		size += len(item)
	}
	text, data := make([]byte, 0, 2+5*len(items)), make([]byte, 0, size)
	text = append(text, '[')
	for i, item := range items {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(len(item)), 10)
		data = append(data, item...)
	}
	return string(append(text, ']')), data
}

// Count returns how many items have these lengths.
func Count(lengths string) (int, error) {
	all, err := parse(lengths)
	return len(all), err
}

// Unpack returns the items of Pack. They share data's memory. An error means that the columns were changed: they do not
// fit each other.
func Unpack(lengths string, data []byte) ([][]byte, error) {
	all, err := parse(lengths)
	if err != nil {
		return nil, err
	}
	items := make([][]byte, len(all))
	for i, n := range all {
		if n > uint(len(data)) {
			return nil, fmt.Errorf("item %d of %d has %d bytes, and %d are left", i, len(all), n, len(data))
		}
		items[i], data = data[:n:n], data[n:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%d bytes are left after %d items", len(data), len(all))
	}
	return items, nil
}

func parse(lengths string) ([]uint, error) {
	var all []uint
	if err := json.Unmarshal([]byte(lengths), &all); err != nil {
		return nil, fmt.Errorf("the lengths of what is packed: %w", err)
	}
	return all, nil
}
