package sqldb

// Queued returns how many transactions wait for SQLite's writer.
func Queued(db *DB) int {
	w := db.engine.(*sqliteEngine).writer
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// Classify is classify.
var Classify = classify
