package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// wire is the way to an application, with what can happen on the way: nobody answers, replies are lost after the
// application has done what it was asked, or it says that it is busy.
type wire struct {
	address string
	backend string

	mu    sync.Mutex
	open  map[net.Conn]bool
	down  bool
	lose  int  // replies still to be lost
	said  int  // replies since one was
	lost  int  // replies that were
	busy  bool // requests are answered with busy, on a wire that speaks LDAP
	turns int  // away: requests that were, by this wire or with 429 by the application
	shut  int  // connections that were refused because it was down
	ldap  bool // whether it does
}

// newWire begins to pass on what comes to a port of its own.
func newWire(t *testing.T, backend string) *wire {
	t.Helper()
	w := &wire{address: freeAddresses(t, 1)[0], backend: backend, open: map[net.Conn]bool{}}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { w.pass(t, conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.setDown(true)
		passing.Wait()
	})
	return w
}

// speaksLDAP lets it say busy. To be called before anybody connects.
func (w *wire) speaksLDAP() { w.ldap = true }

// setDown cuts every connection and lets none in, until it is up again.
func (w *wire) setDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	if down {
		w.cut()
	}
}

// cut ends all connections. The lock is held.
func (w *wire) cut() {
	for conn := range w.open {
		_ = conn.Close()
	}
}

// lossy is how many replies there are for each that is lost, while some are to be: what answers nothing at all is down.
const lossy = 25

// loseReplies cuts n of the next connections on which the application replies, and the replies with them.
func (w *wire) loseReplies(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = n
}

// setBusy answers requests of a wire that speaks LDAP in the application's place, until it is not busy any more.
func (w *wire) setBusy(busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = busy
}

// counts are the replies lost and the requests turned away so far.
func (w *wire) counts() (lost, turnedAway int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost, w.turns
}

// refused is how many connections found it down.
func (w *wire) refused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shut
}

// heard counts what the application itself turns away.
func (w *wire) heard(reply []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.HasPrefix(reply, []byte("HTTP/1.1 429 ")) {
		w.turns++
	}
}

// enter notes connections, unless the application is down.
func (w *wire) enter(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		if w.down {
			w.shut++
			_ = conn.Close()
			continue
		}
		w.open[conn] = true
	}
	return !w.down
}

func (w *wire) leave(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(w.open, conn)
	}
}

// isLost says of a reply that it is to be lost.
func (w *wire) isLost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said++; w.lose == 0 || w.said < lossy {
		return false
	}
	w.lose, w.lost, w.said = w.lose-1, w.lost+1, 0
	return true
}

// isBusy says of a request that it is to be turned away.
func (w *wire) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy {
		w.turns++
	}
	return w.busy
}

func (w *wire) pass(t *testing.T, client net.Conn) {
	if !w.enter(client) {
		return
	}
	defer w.leave(client)
	application, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", w.backend)
	if err != nil || !w.enter(application) {
		return
	}
	defer w.leave(application)
	var there sync.WaitGroup
	there.Go(func() {
		defer w.leave(client, application)
		if w.ldap {
			w.requests(client, application)
			return
		}
		_, _ = io.Copy(application, client)
	})
	w.replies(client, application)
	w.leave(client, application)
	there.Wait()
}

// replies passes on what the application says, until a reply is to be lost.
func (w *wire) replies(client, application net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		reply, err := w.reply(application, buffer)
		if len(reply) > 0 {
			if w.isLost() {
				return
			}
			w.heard(reply)
			if _, err := client.Write(reply); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// reply reads what the application says next: in LDAP a whole message, since busy may be said between two of them.
func (w *wire) reply(application net.Conn, buffer []byte) ([]byte, error) {
	if !w.ldap {
		n, err := application.Read(buffer)
		return buffer[:n], err
	}
	message, err := ber.ReadPacket(application)
	if err != nil {
		return nil, err
	}
	return message.Bytes(), nil
}

// replyTo is the tag of the reply to a request (RFC 4511, section 4.2 and following).
var replyTo = map[ber.Tag]ber.Tag{
	ldap.ApplicationBindRequest:     ldap.ApplicationBindResponse,
	ldap.ApplicationSearchRequest:   ldap.ApplicationSearchResultDone,
	ldap.ApplicationModifyRequest:   ldap.ApplicationModifyResponse,
	ldap.ApplicationAddRequest:      ldap.ApplicationAddResponse,
	ldap.ApplicationDelRequest:      ldap.ApplicationDelResponse,
	ldap.ApplicationModifyDNRequest: ldap.ApplicationModifyDNResponse,
}

// requests passes on what is asked in LDAP, but those that are answered with busy.
func (w *wire) requests(client, application net.Conn) {
	for {
		request, err := ber.ReadPacket(client)
		if err != nil || len(request.Children) < 2 {
			return
		}
		reply, answerable := replyTo[request.Children[1].Tag]
		if !answerable || !w.isBusy() {
			if _, err := application.Write(request.Bytes()); err != nil {
				return
			}
			continue
		}
		answer := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
		answer.AppendChild(request.Children[0])
		result := ber.Encode(ber.ClassApplication, ber.TypeConstructed, reply, nil, "")
		result.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, ldap.LDAPResultBusy, ""))
		result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
		result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "busy", ""))
		answer.AppendChild(result)
		if _, err := client.Write(answer.Bytes()); err != nil && !errors.Is(err, net.ErrClosed) {
			return
		}
	}
}
