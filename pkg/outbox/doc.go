// Package outbox makes events leave in the transaction that made them true, and keeps them until audit has recorded
// them.
//
// Add writes events into the caller's own transaction, up to 64 in a row. The relay, one per database by lease, moves
// what has committed, about 64 events at a time and up to 500 urgent ones in chunks of their own, into one chunk, and in
// the same transaction gives every event the next number of its origin, without a gap. It publishes the chunk outside the
// transaction. A chunk never changes, so it may be published any number of times: the stream drops what it has
// seen within two minutes, and consumers are idempotent by state.
//
// What is published again, and when:
//   - a chunk that was not acknowledged as a whole, until it is;
//   - after the stream turned out to be a new one, all chunks still kept;
//   - after a start or a reconnect to the same stream, what is not known to be published (how far that is, is written
//     with the next chunk or within a second) and the chunks made in the half minute before that: a server that lost
//     its last second in a crash gets it again, and one that did not remembers it and stores nothing. Older chunks
//     are not sent again: while audit is away they are many, and a stream full of copies stops everybody.
//
// A chunk is forgotten when audit has recorded its last number. Until then audit reads any range of numbers through
// the EventLog, so what the stream lost is missing from the record only until audit asks.
//
// A database holds the outbox of one origin.
package outbox
