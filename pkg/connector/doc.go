// Package connector is what a platform team writes a connector with, and what the worker reaches every connector
// through.
//
// A connector is a [Connector] (describe, check, read) and one small interface for each thing that it can do: [Lister],
// [Creator], [Updater], [Enabler], [Deleter], [Granter], [SessionKiller], [CredentialManager], [CredentialRotator],
// [Poller]. The package finds them by assertion, derives the described operations from them and owns the loop of
// Apply: order, not_after before every step, one result for each, what a failure means for the rest, read-back,
// redaction. What is left to the author is one call to the application for each method.
//
// Every mutating method ensures: what already holds is [Unchanged], not an error. A method retries nothing, keeps no
// state and starts no background work; the worker does that once, for all connectors. An error says what is known
// by being a [Problem]; any other error means that nobody knows whether it happened, which the worker settles by
// reading.
//
// Methods are called concurrently, never for the same account at the same time.
package connector
