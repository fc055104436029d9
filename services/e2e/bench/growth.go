package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sizes are numbers of people, ascending.
type sizes []int

func (s *sizes) String() string {
	var all []string
	for _, n := range *s {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// Set reads them from the command line.
func (s *sizes) Set(text string) error {
	*s = nil
	for field := range strings.SplitSeq(text, ",") {
		if text == "" {
			break
		}
		n, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if len(*s) > 0 && n <= (*s)[len(*s)-1] || n < 1 {
			return errors.New("they must be positive, and ascend")
		}
		*s = append(*s, n)
	}
	return nil
}

const (
	windowEvents = 1200 // a third each: joiners, movers, leavers
	fillEvents   = 2000 // that are waited for together while a company is filled
)

// company is a Tenure that grows, with a database server of its own: its processor time must not be somebody else's.
type company struct {
	engine string
	tenure *tenure
	server *postgres
	people *population
	sender *sender
}

func (b *bench) openCompany(ctx context.Context, name, engine string) (_ *company, err error) {
	c := &company{engine: engine, people: &population{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if engine == enginePostgres {
		if c.server, err = startPostgres(ctx); err != nil {
			return nil, err
		}
	}
	if c.tenure, err = startTenure(ctx, b.binary, filepath.Join(b.work, "growth", engine, name), engine, c.server, false); err != nil {
		return nil, err
	}
	c.sender = newSender(c.tenure.webhook, c.tenure.keys, b.clients)
	return c, nil
}

func (c *company) close() error {
	var err error
	if c.sender != nil {
		c.sender.close()
	}
	if c.tenure != nil {
		err = c.tenure.close()
	}
	if c.server != nil {
		c.server.server.Stop()
	}
	return err
}

// growth compares what an event costs in companies of growing size with what it costs, in the same minutes, in one that
// stays at the smallest: windows of events on one and the other, alternating.
func (b *bench) growth(ctx context.Context, engine string) (err error) {
	if len(b.options.growth) < 2 {
		return nil
	}
	least := b.options.growth[0]
	small, err := b.openCompany(ctx, "small", engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.close()) }()
	grown, err := b.openCompany(ctx, "grown", engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, grown.close()) }()
	if err := small.fill(ctx, least, b.clients); err != nil {
		return err
	}
	if _, err := small.window(ctx, b.clients); err != nil { // not counted
		return err
	}
	for _, size := range b.options.growth[1:] {
		if err := grown.fill(ctx, size, b.clients); err != nil {
			return err
		}
		if _, err := grown.window(ctx, b.clients); err != nil { // not counted
			return err
		}
		for i := range b.windows {
			sides := []*company{small, grown}
			if i%2 == 1 {
				sides[0], sides[1] = sides[1], sides[0]
			}
			costs := map[*company]cost{}
			for _, c := range sides {
				if costs[c], err = c.window(ctx, b.clients); err != nil {
					return err
				}
			}
			add := func(figure, unit string, of func(cost) float64) {
				b.figures.add(fmt.Sprintf("growth_%s_%d", figure, size), engine, unit, of(costs[grown]), of(costs[small]))
			}
			add("cpu_ms_per_event", "ms", func(c cost) float64 { return millis(c.processor) })
			add("wall_ms_per_event", "ms", func(c cost) float64 { return millis(c.wall) })
			add("memory_mb", "MB", func(c cost) float64 { return c.memory })
		}
	}
	return nil
}

// fill hires people until there are so many.
func (c *company) fill(ctx context.Context, size, clients int) error {
	for len(c.people.queue) < size {
		var joiners []event
		for range min(fillEvents, size-len(c.people.queue)) {
			joiners = append(joiners, c.people.joiner())
		}
		spent, err := c.measure(ctx, joiners, clients)
		if err != nil {
			return err
		}
		print("%s: %6d people; a joiner took %.2f ms, of processors %.2f ms; %.0f MB", c.engine, len(c.people.queue), millis(spent.wall), millis(spent.processor), spent.memory)
	}
	return nil
}

// window is joiners, movers and leavers, a third each, so that the company keeps its size; who moves or leaves is drawn
// from all of it.
func (c *company) window(ctx context.Context, clients int) (cost, error) {
	queue := c.people.queue
	rand.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] }) //nolint:gosec // G404: not a secret
	events := c.people.leavers(windowEvents / 3)
	events = append(events, c.people.mix(windowEvents-len(events))...)
	rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] }) //nolint:gosec // G404: not a secret
	spent, err := c.measure(ctx, events, clients)
	if err == nil {
		err = c.tenure.db.check(ctx)
	}
	print("%s: with %6d people an event took %.2f ms, of processors %.2f ms; %.0f MB", c.engine, len(c.people.queue), millis(spent.wall), millis(spent.processor), spent.memory)
	return spent, err
}

// cost is what an event cost, and the memory there was after many of them.
type cost struct {
	processor, wall time.Duration
	memory          float64
}

// measure sends events from so many clients, and waits until audit has recorded what came of them.
func (c *company) measure(ctx context.Context, events []event, clients int) (spent cost, err error) {
	before, err := c.tenure.db.sent(ctx)
	if err != nil {
		return cost{}, err
	}
	processor, err := c.tenure.processor(ctx)
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if _, err := c.sender.flood(ctx, events, clients); err != nil {
		return cost{}, err
	}
	if err := c.tenure.db.recorded(ctx, before, len(events)); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	after, err := c.tenure.processor(ctx)
	if err != nil {
		return cost{}, err
	}
	spent = cost{processor: (after - processor) / time.Duration(len(events)), wall: wall / time.Duration(len(events))}
	spent.memory, err = c.tenure.child.memory("VmRSS")
	return spent, err
}
