package raftstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// notes is the machine of these tests: it keeps every entry, in order.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (m *notes) Apply(_, _ uint64, data []byte) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, string(data))
	return len(m.all)
}

func (m *notes) Snapshot() (func(io.Writer) error, error) {
	all := m.read()
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(all) }, nil
}

func (m *notes) Restore(r io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = nil
	return json.NewDecoder(r).Decode(&m.all)
}

func (m *notes) read() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

// node is one member, and what happened to it.
type node struct {
	*raftstore.Store
	id      string
	disk    *raftstoretest.Disk
	machine *notes
	options raftstore.Options
	faults  chan fault
}

type fault struct {
	err error
	at  time.Time
}

// group is some nodes on one network. Make it inside a bubble.
type group struct {
	t       *testing.T
	network *raftstoretest.Network
	nodes   map[string]*node
}

// newGroup starts a group of the named nodes, a voter each.
func newGroup(t *testing.T, ids ...string) *group {
	t.Helper()
	g := &group{t: t, network: raftstoretest.NewNetwork(), nodes: make(map[string]*node)}
	var first []raftstore.Server
	for _, id := range ids {
		first = append(first, server(id))
	}
	for _, id := range ids {
		g.add(id, func(o *raftstore.Options) { o.Bootstrap = first })
	}
	t.Cleanup(func() {
		g.network.HealAll()
		for _, n := range g.nodes {
			n.disk.Resume()
			g.stop(n.id)
		}
	})
	return g
}

func server(id string) raftstore.Server { return raftstore.Server{ID: id, Address: id + ":1"} }

// add starts a node that is new.
func (g *group) add(id string, change func(*raftstore.Options)) *node {
	g.t.Helper()
	n := &node{id: id, disk: raftstoretest.NewDisk(), faults: make(chan fault, 1)}
	n.options = raftstore.Options{
		ID:      id,
		OnFault: func(err error) { n.faults <- fault{err, time.Now()} },
	}
	if change != nil {
		change(&n.options)
	}
	g.nodes[id] = n
	g.start(id)
	return n
}

// start starts a node, with the disk that it had.
func (g *group) start(id string) *node {
	g.t.Helper()
	n := g.nodes[id]
	n.machine = &notes{}
	stream, err := g.network.Host(id).Stream(1)
	if err != nil {
		g.t.Fatal(err)
	}
	o := n.options
	o.Machine, o.Stream = n.machine, stream
	if o.Dir == "" {
		o.Stores = n.disk.Stores()
	}
	if n.Store, err = raftstore.Open(o); err != nil {
		g.t.Fatalf("open %s: %v", id, err)
	}
	return n
}

func (g *group) stop(id string) {
	g.t.Helper()
	if err := g.nodes[id].Close(); err != nil {
		g.t.Errorf("close %s: %v", id, err)
	}
}

// leader waits for a node other than the ones named that leads and is confirmed to.
func (g *group) leader(not ...string) *node {
	g.t.Helper()
	for range 1000 {
		for _, n := range g.nodes {
			if slices.Contains(not, n.id) || n.State() != raftstore.Leader {
				continue
			}
			ctx, cancel := context.WithTimeout(g.t.Context(), 100*time.Millisecond)
			err := n.Read(ctx)
			cancel()
			if err == nil {
				return n
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.t.Fatal("no leader in ten seconds")
	return nil
}

// followers returns the other nodes, in the order of their names.
func (g *group) followers(leader *node) []*node {
	var all []*node
	for _, n := range g.nodes {
		if n != leader {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return bytes.Compare([]byte(a.id), []byte(b.id)) })
	return all
}

// cut cuts both directions between one node and others.
func (g *group) cut(one *node, others ...*node) {
	for _, o := range others {
		g.network.CutBoth(one.id, o.id)
	}
}

// propose proposes entries and fails the test if one is not accepted.
func (g *group) propose(n *node, entries ...string) {
	g.t.Helper()
	for _, e := range entries {
		if _, err := n.Propose(g.t.Context(), []byte(e)); err != nil {
			g.t.Fatalf("propose %q on %s: %v", e, n.id, err)
		}
	}
}

// settled waits until the nodes have all of want, and nothing else.
func (g *group) settled(want []string, nodes ...*node) {
	g.t.Helper()
	g.wait(func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return !slices.Equal(n.machine.read(), want) })
	}, func() string {
		text := fmt.Sprintf("want %d entries", len(want))
		for _, n := range nodes {
			text += fmt.Sprintf(", %s has %d", n.id, len(n.machine.read()))
		}
		return text
	})
}

// end proposes a last entry, waits until every node has it, and returns what they all have.
func (g *group) end() []string {
	g.t.Helper()
	l := g.leader()
	g.propose(l, "last")
	state := l.machine.read()
	g.settled(state, slices.Collect(maps.Values(g.nodes))...)
	return state
}

func (g *group) wait(until func() bool, what func() string) {
	g.t.Helper()
	for range 3000 {
		if until() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.t.Fatal(what())
}

func (g *group) noFaults() {
	g.t.Helper()
	for _, n := range g.nodes {
		select {
		case f := <-n.faults:
			g.t.Errorf("%s: %v", n.id, f.err)
		default:
		}
	}
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func numbered(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("entry ", i))
	}
	return all
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
