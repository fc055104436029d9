package batch_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/batch"
)

// gate holds the first call of do until everybody who is to wait is known to have come.
type gate struct {
	mu    sync.Mutex
	calls [][]int
	held  chan struct{} // closed: go on
	in    chan struct{} // closed when the first is being done
}

func newGate() *gate { return &gate{held: make(chan struct{}), in: make(chan struct{})} }

func (g *gate) do(_ context.Context, items []int) error {
	g.mu.Lock()
	g.calls = append(g.calls, slices.Clone(items))
	first := len(g.calls) == 1
	g.mu.Unlock()
	if first {
		close(g.in)
		<-g.held
	}
	if slices.Contains(items, bad) {
		return errBad
	}
	return nil
}

const bad = 13

var errBad = errors.New("bad")

// together asks for the first item, and for the rest while that is being done, and returns what each was told.
func together(t *testing.T, g *gate, most int, first int, rest ...int) map[int]error {
	t.Helper()
	b := batch.New(batch.Config{Most: most}, g.do)
	told := map[int]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	ask := func(item int) {
		all.Go(func() {
			err := b.Do(t.Context(), item)
			mu.Lock()
			defer mu.Unlock()
			told[item] = err
		})
	}
	ask(first)
	<-g.in
	for i, item := range rest {
		ask(item)
		for b.Waiting() <= i { // in this order
			runtime.Gosched()
		}
	}
	close(g.held)
	all.Wait()
	return told
}

func TestWhatComesMeanwhileIsDoneTogether(t *testing.T) {
	t.Parallel()
	g := newGate()
	for item, err := range together(t, g, 3, 1, 2, 3, 4, 5) {
		if err != nil {
			t.Errorf("item %d: %v", item, err)
		}
	}
	if want := [][]int{{1}, {2, 3, 4}, {5}}; !slices.EqualFunc(want, g.calls, slices.Equal) {
		t.Errorf("done as %v, want %v", g.calls, want)
	}
}

func TestOneThatCannotBeDoneHarmsNoOther(t *testing.T) {
	t.Parallel()
	g := newGate()
	told := together(t, g, 10, 1, 2, bad, 4)
	for item, err := range told {
		if want := item == bad; errors.Is(err, errBad) != want {
			t.Errorf("item %d is told %v", item, err)
		}
	}
	if want := [][]int{{1}, {2, bad, 4}, {2}, {bad}, {4}}; !slices.EqualFunc(want, g.calls, slices.Equal) {
		t.Errorf("done as %v, want %v", g.calls, want)
	}
}

func TestOneAloneIsNotDoneTwice(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.held)
	if err := batch.New(batch.Config{Most: 10}, g.do).Do(t.Context(), bad); !errors.Is(err, errBad) {
		t.Errorf("told %v", err)
	}
	if len(g.calls) != 1 {
		t.Errorf("done as %v", g.calls)
	}
}

func TestAPanicReachesWhoDidItAndFreesTheRest(t *testing.T) {
	t.Parallel()
	in, held := make(chan struct{}), make(chan struct{})
	b := batch.New(batch.Config{Most: 10}, func(_ context.Context, items []int) error {
		if items[0] == 1 {
			close(in)
			<-held
			panic("out of order")
		}
		return nil
	})
	panicked, second := make(chan any), make(chan error)
	go func() {
		defer func() { panicked <- recover() }()
		_ = b.Do(t.Context(), 1)
	}()
	<-in
	go func() { second <- b.Do(t.Context(), 2) }()
	for b.Waiting() == 0 {
		runtime.Gosched()
	}
	close(held)
	if got := <-panicked; got != "out of order" {
		t.Errorf("whose call panicked got %v", got)
	}
	if err := <-second; err != nil {
		t.Errorf("who waited is told %v", err)
	}
}

func TestItDoesNotEndWithWhoServes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := batch.New(batch.Config{Most: 1}, func(ctx context.Context, _ []int) error { return ctx.Err() }).Do(ctx, 1)
	if err != nil {
		t.Errorf("told %v", err)
	}
}

func TestWhoIsExpectedIsWaitedFor(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.held)
	b := batch.New(batch.Config{Most: 10, Wait: time.Hour, Expected: func() int { return 3 }}, g.do)
	var all sync.WaitGroup
	for item := range 3 {
		all.Go(func() {
			if err := b.Do(t.Context(), item); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(g.calls) != 1 || len(g.calls[0]) != 3 {
		t.Errorf("done as %v, want all three at once", g.calls)
	}
}

func TestNobodyWaitsWhereNobodyElseIsExpected(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.held)
	b := batch.New(batch.Config{Most: 10, Wait: time.Hour, Expected: func() int { return 1 }}, g.do)
	for item := range 2 {
		if err := b.Do(t.Context(), item); err != nil {
			t.Error(err)
		}
	}
	if want := [][]int{{0}, {1}}; !slices.EqualFunc(want, g.calls, slices.Equal) {
		t.Errorf("done as %v, want %v", g.calls, want)
	}
}

func TestWhoDoesNotComeIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.held)
	b := batch.New(batch.Config{Most: 10, Wait: time.Millisecond, Expected: func() int { return 2 }}, g.do)
	if err := b.Do(t.Context(), 1); err != nil || len(g.calls) != 1 {
		t.Errorf("done as %v, %v", g.calls, err)
	}
}
