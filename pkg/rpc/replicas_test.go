package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/rpc"
)

func TestCallsAreSpreadOverReplicasAndGoOnWithoutOne(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var replicas []*people
	var stops []func()
	var addresses []string
	for range 2 {
		p := newPeople()
		server, stop := listen(t, rpc.Config{TLS: ca.cn(t, "console"), Operators: operators()}, zap.NewNop(), p.register)
		replicas, stops, addresses = append(replicas, p), append(stops, stop), append(addresses, server.Addr().String())
	}
	client := dial(t, rpc.PeerConfig{
		Address: strings.Join(addresses, ", "), TLS: rpc.TLS{CAFile: ca.file("ca.crt")}, ServerName: "console", Token: secret(bobToken), Patience: 5 * time.Second,
	})
	asked := func(p *people) bool {
		caller, _ := p.last()
		return caller.Operator == "bob"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !asked(replicas[0]) || !asked(replicas[1]) {
		if err := find(ctx, client, "somebody"); err != nil {
			t.Fatalf("before each replica was asked: %v", err)
		}
	}
	stopping := make(chan struct{})
	go func() {
		defer close(stopping)
		stops[0]()
	}()
	for n, left := 0, 20; left > 0; n++ { // while it stops, and 20 more after
		select {
		case <-stopping:
			left--
		default:
		}
		if err := find(ctx, client, fmt.Sprint(n)); err != nil {
			t.Fatalf("call %d failed while one replica stops: %v", n, err)
		}
	}
}
