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

// toMsg puts the envelope into headers. The map is filled directly: header names on the wire keep their case, and
// fifteen canonicalisations a message are not free.
func toMsg(e *Event) *nats.Msg {
	header := nats.Header{
		headerSpec:            {"1.0"},
		headerID:              {e.ID},
		headerType:            {e.Type},
		headerSource:          {e.Origin},
		headerSubject:         {e.Subject},
		headerTime:            {e.Time.UTC().Format(time.RFC3339Nano)},
		headerSeq:             {strconv.FormatUint(e.Seq, 10)},
		jetstream.MsgIDHeader: {e.ID},
	}
	for name, value := range map[string]string{
		headerCorrelation: e.CorrelationID, headerCausation: e.CausationID, headerTrace: e.TraceParent,
	} {
		if value != "" {
			header[name] = []string{value}
		}
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
