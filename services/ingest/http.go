package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/services/ingest/source"
)

const (
	// maxUnproven is how many bodies may be in flight whose sender is not known yet: 64 MiB at most.
	maxUnproven = 64
	// maxHeaders is the greatest size of a request's headers.
	maxHeaders = 16 << 10
	// bodyWait is how long a body may take to arrive.
	bodyWait = 10 * time.Second
	// commitWait is how long a delivery may take to be stored before the sender is told to come again.
	commitWait = 10 * time.Second
	// stopWait is how long requests under way may take once the process stops.
	stopWait = 15 * time.Second
	// retryAfter is what we ask of a sender when the fault is ours, in seconds.
	retryAfter = "5"
)

// unprovenText is the one answer to everybody who is not proven, whatever was wrong.
const unprovenText = "signature refused"

// Serve answers webhooks on l until ctx ends, then finishes what was taken. It closes l.
func (s *Service) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       bodyWait + 5*time.Second,
		WriteTimeout:      bodyWait + commitWait + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          zap.NewStdLog(s.log.Named("http")),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		if server.Shutdown(wait) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve webhooks: %w", err)
}

// Handler answers POST /v1/webhooks/{source}. The content type is not looked at: the signature says whose bytes they
// are, and one strict reader says whether they are JSON.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/webhooks/{source}", s.webhook)
	return mux
}

func (s *Service) webhook(w http.ResponseWriter, r *http.Request) {
	feed, label := s.sources[r.PathValue("source")], nameless
	if feed != nil {
		label = feed.Name
	}
	body, message, failed := s.prove(w, r, feed)
	if failed != nil {
		if feed != nil && feed.Vendor != nil {
			failed.patient()
		}
		if failed.reason != "" {
			s.metrics.refused.WithLabelValues(label, failed.reason).Inc()
		} else {
			s.metrics.deliveries.WithLabelValues(label, failed.result).Inc()
		}
		failed.write(w)
		return
	}
	take := s.receive
	if feed.Vendor != nil {
		take = s.receiveNotice
	}
	answer := take(r, feed, body, message)
	if answer.failure != nil {
		s.metrics.deliveries.WithLabelValues(label, answer.result).Inc()
	}
	answer.write(w)
}

// failure is an answer to a request that was not taken: 4xx, 5xx, or 200 to one that wanted nothing.
type failure struct {
	status     int
	text       string
	pointer    *string // RFC 6901: where in the body; nil: the body is not the matter
	retryAfter string
	result     string // label
	reason     string // label of refused; empty: the sender is not the matter
}

// prove reads a body and finds out whether feed's sender signed it. Until that is known the body takes one of few places.
// A source that is not there is judged like one that is, by keys that nobody has.
func (s *Service) prove(w http.ResponseWriter, r *http.Request, feed *feed) ([]byte, source.Message, *failure) {
	verifier := feed.verifier(s.nobody)
	tooLarge := &failure{
		status: http.StatusRequestEntityTooLarge, result: resultTooLarge, pointer: new(string),
		text: fmt.Sprintf("the body is over %d bytes", source.MaxBody),
	}
	if r.ContentLength > source.MaxBody {
		return nil, source.Message{}, tooLarge
	}
	select {
	case s.unproven <- struct{}{}:
		defer func() { <-s.unproven }()
	default:
		return nil, source.Message{}, &failure{
			status: http.StatusTooManyRequests, result: resultOverloaded, text: "too many requests at once", retryAfter: "1",
		}
	}
	// A sender who dribbles gives the place back in time. Where a deadline cannot be set, the server's own holds.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, source.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, source.Message{}, tooLarge
	case err != nil:
		return nil, source.Message{}, &failure{
			status: http.StatusRequestTimeout, result: resultIncomplete, text: "the body did not arrive",
		}
	}
	message, err := verifier.Verify(r.Header, body, s.now())
	if errors.Is(err, source.ErrPing) {
		return nil, source.Message{}, &failure{status: http.StatusOK, result: resultPing}
	}
	if err != nil {
		return nil, source.Message{}, &failure{
			status: http.StatusUnauthorized, text: unprovenText, reason: source.Reason(err),
		}
	}
	return body, message, nil
}

// answer is what a proven sender is told.
type answer struct {
	*failure
	Delivery string       `json:"delivery"`
	Held     *string      `json:"held"`
	Items    []itemAnswer `json:"items,omitempty"`

	status int // 0: 202
}

type itemAnswer struct {
	Item       int     `json:"item"`
	ExternalID string  `json:"external_id"`
	Held       *string `json:"held"`
}

// receive takes what a proven sender sent.
func (s *Service) receive(r *http.Request, feed *feed, body []byte, message source.Message) answer {
	read, err := feed.read(body, message.Time)
	var wrong *source.Error
	switch {
	case errors.As(err, &wrong):
		return answer{failure: &failure{
			status: http.StatusBadRequest, text: wrong.Problem, pointer: &wrong.Pointer, result: resultInvalid,
		}}
	case err != nil:
		return s.ourFault(feed, err)
	}
	// Who hangs up is not waited for, but what was begun is finished: it would be sent again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), commitWait)
	defer cancel()
	ctx = telemetry.Span(telemetry.WithTraceParent(ctx, r.Header.Get(telemetry.HeaderTraceParent)))
	delivery := newDelivery(feed.Name, message.ID, "source:"+feed.Name, body, message.Time, s.now())
	delivery.Headers = keptHeaders(r.Header)
	out, err := s.accept(ctx, feed, delivery, read)
	if err != nil {
		return s.ourFault(feed, err)
	}
	s.count(feed.Name, out)
	return told(out, read.batch)
}

// ourFault logs what went wrong with us and asks the sender to come again. Never another answer: a 4xx would make them
// give up what we never had.
func (s *Service) ourFault(feed *feed, err error) answer {
	s.log.Error("delivery could not be stored; its sender was asked to repeat it",
		zap.String(telemetry.FieldSource, feed.Name), zap.Error(err))
	return answer{failure: &failure{
		status: http.StatusServiceUnavailable, text: "not now", retryAfter: retryAfter, result: resultUnavailable,
	}}
}

func told(out outcome, batch bool) answer {
	a := answer{Delivery: out.id, Held: optional(out.held)}
	if batch {
		for _, item := range out.items {
			a.Items = append(a.Items, itemAnswer{Item: item.N, ExternalID: item.ExternalID, Held: optional(item.Held)})
		}
	}
	return a
}

func (a answer) write(w http.ResponseWriter) {
	if a.failure != nil {
		a.failure.write(w)
		return
	}
	writeJSON(w, cmp.Or(a.status, http.StatusAccepted), a)
}

func (f *failure) write(w http.ResponseWriter) {
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	if f.status == http.StatusTooManyRequests {
		w.Header().Set("Connection", "close") // else the answer would wait for the body, which we do not want
	}
	writeJSON(w, f.status, struct {
		Error   string  `json:"error,omitempty"`
		Pointer *string `json:"pointer,omitempty"`
	}{f.text, f.pointer})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{}`) // cannot be: these are strings and numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// keptHeaders are those that tell later how a delivery came: identity, time, signature and sender.
func keptHeaders(h http.Header) []byte {
	var b strings.Builder
	for _, name := range []string{
		"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "X-Bamboohr-Timestamp", "X-Bamboohr-Signature", "Bob-Signature",
		"Content-Type", "User-Agent",
	} {
		for _, value := range h.Values(name) {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	return []byte(b.String())
}

// optional is nil for an empty text, which JSON then shows as null.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
