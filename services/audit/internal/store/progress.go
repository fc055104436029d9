package store

import (
	"cmp"
	"slices"
	"time"
)

// Progress is how far an origin's events are recorded.
type Progress struct {
	Seq   uint64      // all up to it
	Later [][2]uint64 // recorded beyond a hole: the first and the last number of each run, in order
	Since time.Time   // when a hole was noticed; zero: there is none
}

// Has says whether event seq is recorded.
func (p *Progress) Has(seq uint64) bool {
	return seq <= p.Seq || slices.ContainsFunc(p.Later, func(run [2]uint64) bool { return run[0] <= seq && seq <= run[1] })
}

// Add notes that event seq, which was not recorded yet, is recorded at now.
func (p *Progress) Add(seq uint64, now time.Time) {
	at, _ := slices.BinarySearchFunc(p.Later, seq, func(run [2]uint64, seq uint64) int { return cmp.Compare(run[0], seq) })
	p.Later = slices.Insert(p.Later, at, [2]uint64{seq, seq})
	joined := p.Later[:0]
	for _, run := range p.Later {
		switch last := len(joined) - 1; {
		case run[0] == p.Seq+1:
			p.Seq = run[1]
		case last >= 0 && run[0] == joined[last][1]+1:
			joined[last][1] = run[1]
		default:
			joined = append(joined, run)
		}
	}
	p.Later = joined
	switch {
	case len(p.Later) == 0:
		p.Since = time.Time{}
	case p.Since.IsZero():
		p.Since = now
	}
}

// Clone returns a copy that shares nothing with p.
func (p *Progress) Clone() *Progress {
	return &Progress{Seq: p.Seq, Later: slices.Clone(p.Later), Since: p.Since}
}

// Hole returns the first run of missing numbers; ok is false when there is none.
func (p *Progress) Hole() (from, to uint64, ok bool) {
	if len(p.Later) == 0 {
		return 0, 0, false
	}
	return p.Seq + 1, p.Later[0][0] - 1, true
}

// Behind is for how long a hole has been known.
func (p *Progress) Behind(now time.Time) time.Duration {
	if p.Since.IsZero() {
		return 0
	}
	return max(0, now.Sub(p.Since))
}
