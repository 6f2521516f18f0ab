package whole

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent"
	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

const linkPort = ":7412"

// host is a machine with databases and one agent, which runs or does not.
type host struct {
	w          *world
	name       string
	state, run string // directories of the agent
	clock      time.Duration
	names      []string // of the instances
	dbs        map[string]*database
	tap        *tap // of the present start of the agent; nil: nobody listens

	stop  context.CancelFunc
	ended chan error
	err   error // with which the agent ended
}

func (w *world) newHost(name string, clock time.Duration) *host {
	dir := w.memory()
	h := &host{
		w: w, name: name, state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"), clock: clock,
		dbs: map[string]*database{},
	}
	w.hosts[name] = h
	return h
}

// memory is a directory that is kept in memory if this system has such: the agents' files are written hundreds of
// times in each second of virtual time, and the disk under them is not what these tests are about. It is removed
// when the last agent has ended.
func (w *world) memory() string {
	base := "/dev/shm"
	if st, err := os.Stat(base); err != nil || !st.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "whole-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.dirs = append(w.dirs, dir)
	return dir
}

// startAgent starts the agent, or starts it again.
func (h *host) startAgent() {
	w := h.w
	c := agent.DefaultConfig()
	c.Fence = agent.Fence{} // in virtual time there is no kernel
	c.Host, c.StateDir, c.RunDir, c.HTTP.Listen = h.name, h.state, h.run, ""
	c.Link = agent.Listen{Listen: h.name + linkPort, Advertise: h.name + linkPort}
	engines := map[string]engine.Engine{}
	for _, name := range h.names {
		c.Instances = append(c.Instances, agent.Instance{Name: name})
		engines[name] = memory{h.dbs[name]}
		h.forgetExits(h.dbs[name])
	}
	for _, n := range w.nodes {
		c.Witness.Endpoints = append(c.Witness.Endpoints, n.id+":7401")
	}
	network := w.net.Host(h.name)
	connect := dial
	if w.taps {
		h.tap = newTap(w, h.name)
		connect = h.tap.dial
	}
	a, err := agent.New(c, agent.Options{
		Clock:   func() hold.Instant { return hold.Instant(h.clock + w.now()) },
		Dial:    func(ctx context.Context, to string) (net.Conn, error) { return connect(ctx, network, to) },
		Engines: engines, Logger: w.logger(h.name),
		Listen: func(address string) (net.Listener, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			number, err := strconv.Atoi(port)
			if err != nil {
				return nil, err
			}
			return network.Listen(number)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ended = stop, make(chan error, 1)
	go func(ended chan<- error) { ended <- a.Run(ctx) }(h.ended)
	w.logf("agent of %s runs", h.name)
}

// forgetExits drops what the kernel said while no agent ran.
func (h *host) forgetExits(d *database) {
	for {
		select {
		case <-d.exits:
		default:
			return
		}
	}
}

// stopAgent is SIGTERM, which at this level of the fence is as good as any other end: databases are left as
// they are.
func (h *host) stopAgent() {
	if h.stop == nil {
		return
	}
	h.stop()
	h.err = <-h.ended
	h.stop = nil
	h.w.logf("agent of %s stopped", h.name)
}

// lose ends the whole machine at once: nobody hears that it is gone, and the mark in memory is lost.
func (h *host) lose() {
	h.w.net.Isolate(h.name)
	h.w.net.Isolate(h.name + "-db")
	h.w.mu.Lock()
	for _, d := range h.dbs {
		d.end("host lost")
	}
	h.w.mu.Unlock()
	h.stopAgent()
	for _, name := range h.names {
		_ = os.Remove(filepath.Join(h.run, name+".mark"))
	}
	h.w.logf("host %s lost", h.name)
}

// boot brings a lost machine back; its databases start by themselves, as copies that refuse writes.
func (h *host) boot() {
	for _, name := range []string{h.name, h.name + "-db"} {
		h.w.net.Reset(name)
		h.w.net.Rejoin(name)
	}
	h.w.mu.Lock()
	for _, d := range h.dbs {
		d.start()
	}
	h.w.mu.Unlock()
	h.startAgent()
}

// block makes the epoch files impossible to replace, as a disk that fails does; unblock mends it.
func (h *host) block() {
	for _, name := range h.names {
		if err := os.MkdirAll(filepath.Join(h.state, name+".epoch.new"), 0o700); err != nil {
			h.w.t.Fatal(err)
		}
	}
}

func (h *host) unblock() {
	for _, name := range h.names {
		if err := os.Remove(filepath.Join(h.state, name+".epoch.new")); err != nil {
			h.w.t.Fatal(err)
		}
	}
}

// cutWitness cuts the host's agent from all nodes, in both directions; healWitness mends it.
func (h *host) cutWitness() {
	h.w.logf("cut %s from the witness", h.name)
	for _, n := range h.w.nodes {
		h.w.net.CutBoth(h.name, n.id)
	}
}

func (h *host) healWitness() {
	h.w.logf("heal %s and the witness", h.name)
	for _, n := range h.w.nodes {
		h.w.net.HealBoth(h.name, n.id)
	}
}

// isolate cuts the machine from everything, and leaves it running; rejoin ends that.
func (h *host) isolate() {
	h.w.logf("host %s isolated", h.name)
	h.w.net.Isolate(h.name)
	h.w.net.Isolate(h.name + "-db")
}

func (h *host) rejoin() {
	h.w.logf("host %s back on the network", h.name)
	h.w.net.Rejoin(h.name)
	h.w.net.Rejoin(h.name + "-db")
}
