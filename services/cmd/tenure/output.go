package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
)

// printer writes one command's answer: a table for people, JSON for machines.
type printer struct {
	w    io.Writer
	json bool
}

func newPrinter(w io.Writer, format string) (*printer, error) {
	switch format {
	case "table":
		return &printer{w: w}, nil
	case "json":
		return &printer{w: w, json: true}, nil
	default:
		return nil, fault.New(fault.Usage, "-o %s: table or json", format)
	}
}

// message prints msg as JSON and says true; for a table it prints nothing and says false.
func (p *printer) message(msg proto.Message) (bool, error) {
	if !p.json {
		return false, nil
	}
	raw, err := marshal(msg)
	if err != nil {
		return true, err
	}
	_, err = fmt.Fprintln(p.w, string(raw))
	return true, err
}

// document prints several named messages as one JSON document.
func (p *printer) document(parts ...part) error {
	doc := make(map[string]json.RawMessage, len(parts))
	for _, part := range parts {
		raw, err := part.raw()
		if err != nil {
			return err
		}
		doc[part.name] = raw
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	_, err = fmt.Fprintln(p.w, string(raw))
	return err
}

// part is one named piece of a JSON document.
type part struct {
	name string
	raw  func() (json.RawMessage, error)
}

func one(name string, msg proto.Message) part {
	return part{name, func() (json.RawMessage, error) { return marshal(msg) }}
}

func many[M proto.Message](name string, msgs []M) part {
	return part{name, func() (json.RawMessage, error) {
		list := make([]json.RawMessage, 0, len(msgs))
		for _, msg := range msgs {
			raw, err := marshal(msg)
			if err != nil {
				return nil, err
			}
			list = append(list, raw)
		}
		raw, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("write json: %w", err)
		}
		return raw, nil
	}}
}

// marshal is JSON with the protos' own field names. protojson varies its white space on purpose; compact JSON does not.
func marshal(msg proto.Message) (json.RawMessage, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	compact, err := json.Marshal(json.RawMessage(raw))
	if err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	return compact, nil
}

// table prints rows under a head, columns aligned.
func (p *printer) table(head []string, rows [][]string) error {
	tw := tabwriter.NewWriter(p.w, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(tw, strings.Join(head, "\t")); err != nil {
		return err
	}
	for _, row := range rows {
		for i := range row {
			row[i] = clean(row[i])
			if row[i] == "" {
				row[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// line prints one line of text.
func (p *printer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format+"\n", args...) // a closed pipe ends the process by itself
}

// clean keeps a value from moving the cursor or breaking the table: names come from outside.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '·'
		}
		return r
	}, s)
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = clean(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// when prints an instant in UTC, to the second.
func when(ts *timestamppb.Timestamp) string {
	if ts == nil {
		return ""
	}
	return ts.AsTime().UTC().Format("2006-01-02 15:04:05Z")
}

// took prints a duration as people say it.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// short is the value's name without the prefix of its enum: LIFECYCLE_KIND_LEAVE_STARTED → leave-started.
func short(value fmt.Stringer, prefix string) string {
	name := strings.TrimPrefix(value.String(), prefix)
	if name == "UNSPECIFIED" {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}
