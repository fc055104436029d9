package bus

import "github.com/nats-io/nats.go/jetstream"

// JetStream lets tests do to a stream what no service may.
func JetStream(b *Bus) jetstream.JetStream { return b.js }
