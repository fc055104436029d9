// Package bus carries facts between the services: one JetStream stream, TENURE, that every service publishes to
// and consumes from.
//
// The bus is a transport that can be rebuilt, never the record: a publisher keeps what it published until audit has
// recorded it, and a consumer's truth is its own database. So the stream may sync lazily, may be full (publishers
// wait) and may be lost (a new one is made, everybody is told, publishers send again what they still keep).
// Delivery is at least once and in no promised order; handlers are idempotent by state.
//
// An event is an envelope in headers, named as in CloudEvents 1.0, and one protobuf fact as body. Neither holds a
// person's data or free text, so the stream can be watched and need not be erased.
package bus
