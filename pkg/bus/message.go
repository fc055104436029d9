package bus

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Header names. CloudEvents 1.0 where it has one.
const (
	headerID          = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject"
	headerTime        = "ce-time"
	headerSpec        = "ce-specversion"
	headerSeq         = "seq"
	headerCorrelation = "correlation"
	headerCausation   = "causation"
	headerTrace       = "traceparent"
)

// headers is how many a message has at most.
const headers = 11

// toMsg puts the envelope into headers. The map is filled directly: header names on the wire keep their case, and
// fifteen canonicalisations a message are not free. Neither are eleven slices of one value: they share an array.
func toMsg(e *Event) *nats.Msg {
	header := make(nats.Header, headers)
	values := make([]string, 0, headers)
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(headerSpec, "1.0")
	set(headerID, e.ID)
	set(headerType, e.Type)
	set(headerSource, e.Origin)
	set(headerSubject, e.Subject)
	set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	set(headerSeq, strconv.FormatUint(e.Seq, 10))
	set(jetstream.MsgIDHeader, e.ID)
	if e.CorrelationID != "" {
		set(headerCorrelation, e.CorrelationID)
	}
	if e.CausationID != "" {
		set(headerCausation, e.CausationID)
	}
	if e.TraceParent != "" {
		set(headerTrace, e.TraceParent)
	}
	return &nats.Msg{Subject: e.Subject, Header: header, Data: e.Data}
}

// fromMsg reads what there is: an envelope that is wrong somewhere is still an event, for audit to record and for
// others to park.
func fromMsg(subject string, header nats.Header, data []byte) Event {
	e := Event{
		ID:            text(header.Get(headerID)),
		Type:          text(header.Get(headerType)),
		Origin:        text(header.Get(headerSource)),
		Subject:       text(subject),
		CorrelationID: text(header.Get(headerCorrelation)),
		CausationID:   text(header.Get(headerCausation)),
		TraceParent:   text(header.Get(headerTrace)),
		Data:          data,
	}
	if e.ID == "" {
		e.ID = text(header.Get(jetstream.MsgIDHeader))
	}
	if seq, err := strconv.ParseUint(header.Get(headerSeq), 10, 64); err == nil {
		e.Seq = seq
	}
	if at, err := time.Parse(time.RFC3339Nano, header.Get(headerTime)); err == nil && !at.IsZero() {
		e.Time = at.UTC()
	}
	return e
}

// text makes of any bytes a string that protobuf and databases take.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
