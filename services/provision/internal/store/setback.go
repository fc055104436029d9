package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// ahead are the columns that say when something is to happen, or happened last: none of them may wait for a time to come again.
var ahead = []string{"due_at", "lease_until", "quiet_until", "taking_until", "marked_at", "create_tried", "unwanted_since", "observed_at"}

func setBack() string {
	set, where := make([]string, len(ahead)), make([]string, len(ahead))
	for i, column := range ahead {
		set[i] = fmt.Sprintf("%[1]s = CASE WHEN %[1]s > $2 THEN %[1]s - $3 WHEN %[1]s > $1 THEN $1 ELSE %[1]s END", column)
		where[i] = column + " > $1"
	}
	return "UPDATE targets SET version = version + 1, " + strings.Join(set, ", ") + " WHERE " + strings.Join(where, " OR ")
}

// SetBack makes what waits wait for as long as it would have, had the clock not been set back from a time to now: what had come
// by then has come. It returns how many targets that changed.
func (t Tx) SetBack(ctx context.Context, now, from time.Time) (int64, error) {
	rows, err := t.Exec(ctx, setBack(), micros(now), micros(from), from.Sub(now).Microseconds())
	if err != nil {
		return 0, fmt.Errorf("set targets back: %w", err)
	}
	return rows, nil
}
