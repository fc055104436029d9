package ingest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/ingest"
)

func TestAStoppingServiceFinishesWhatItTook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	address, stop, stopped := serve(t, w)

	// A body of which the first half has arrived when the service is told to stop.
	body := changed(ann())
	request := w.signed("acme-hr", "msg-1", body)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var head strings.Builder
	fmt.Fprintf(&head, "POST /v1/webhooks/acme-hr HTTP/1.1\r\nHost: test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n", len(body))
	if err := request.Header.Write(&head); err != nil {
		t.Fatal(err)
	}
	write(t, conn, head.String()+"\r\n")
	continued := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, continued); err != nil { // the handler reads the body now
		t.Fatal(err)
	}
	write(t, conn, body[:len(body)/2])
	stop()
	write(t, conn, body[len(body)/2:])
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 202 ") {
		t.Errorf("a request under way was answered %q (%v)", answer, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if w.find("10001").GetUserName() == "" {
		t.Error("what was taken while stopping is not there")
	}
}

func TestLongHeadersAreNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	address, stop, stopped := serve(t, w)
	request := w.signed("acme-hr", "msg-1", changed(ann()))
	request.RequestURI, request.URL.Scheme, request.URL.Host = "", "http", address
	request.Header.Set("X-Long", strings.Repeat("x", 1<<20))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 1 MiB were answered %d", answer.StatusCode)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestWhoIsOneTooManyIsToldAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	address, stop, stopped := serve(t, w)
	// begin sends the head of a request and the first byte of its body, and returns how the answer begins.
	var open []net.Conn
	begin := func(headers string) string {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		write(t, conn, "POST /v1/webhooks/acme-hr HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n"+headers+"\r\n{")
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil { // a body may take longer
			t.Fatal(err)
		}
		answer := make([]byte, len("HTTP/1.1 100"))
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatalf("no answer: %v", err)
		}
		return string(answer)
	}
	for range ingest.MaxUnproven {
		if got := begin("Expect: 100-continue\r\n"); got != "HTTP/1.1 100" {
			t.Fatalf("answered %q before the places are taken", got)
		}
	}
	if got := begin(""); got != "HTTP/1.1 429" {
		t.Errorf("one too many was answered %q", got)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// serve serves w's webhooks until stop is called.
func serve(t *testing.T, w *world) (address string, stop func(), stopped <-chan error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	done := make(chan error, 1)
	go func() { done <- w.svc.Serve(ctx, l) }()
	return l.Addr().String(), stop, done
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}
