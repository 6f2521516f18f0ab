package whole

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// database is one copy of a small replicated database: its disk, and the process that runs on it or does not.
// It outlives agents. Everything in it is guarded by world.mu, so that two copies can be compared at one instant.
type database struct {
	w       *world
	books   *books
	name    string // of its host
	net     *raftstoretest.Host
	address string
	port    int
	exits   chan engine.Exit

	// The disk.
	data   bool
	system string
	log    []uint64 // the ids of the commits, which rise
	eras   []era

	// The process.
	running  bool
	run      int
	primary  bool
	held     bool   // commits wait for the mirror's flush
	peer     string // the host whose flush they wait for
	draining bool   // hands over: takes no new commits
	hung     bool   // answers nobody and acknowledges nothing
	waiting  []*commit
	listener net.Listener
	feeds    map[*feed]bool // connections of mirrors
	feed     *feed          // the one that is counted
	receiver *receiver      // as a mirror

	promotes int
	onOpen   func() // is called when clients are let in
	turns    []turn
	tasks    sync.WaitGroup
}

// era is the time of one promotion; two copies have a common past up to the end of the last era they share.
type era struct {
	Timeline uint64
	From     int // index into the log
}

// turn is a change of whether clients can commit here.
type turn struct {
	at   time.Duration
	open bool
	why  string
}

// commit is a client that waits for its acknowledgement.
type commit struct {
	id   uint64
	end  int // the log's length with it
	done chan bool
}

func (w *world) newDatabase(b *books, host string, port int) *database {
	d := &database{
		w: w, books: b, name: host, net: w.net.Host(host + "-db"), port: port,
		address: net.JoinHostPort(host+"-db", strconv.Itoa(port)),
		exits:   make(chan engine.Exit, 16), held: true,
	}
	b.copies = append(b.copies, d)
	return d
}

// open says whether clients can commit here, or could as soon as the process goes on.
func (d *database) open() bool { return d.running && d.primary }

// start starts the process as a copy that refuses writes. Called with world.mu held.
func (d *database) start() {
	if d.running {
		return
	}
	l, err := d.net.Listen(d.port)
	if err != nil {
		d.w.t.Errorf("database of %s: %v", d.name, err)
		return
	}
	d.run++
	d.running, d.primary, d.held, d.draining, d.hung = true, false, true, false, false
	d.listener, d.feeds, d.feed = l, map[*feed]bool{}, nil
	d.tasks.Go(func() { d.accept(l) })
}

// end ends the process, whatever it does. Called with world.mu held.
func (d *database) end(why string) {
	if !d.running {
		return
	}
	if d.primary {
		d.turn(false, why)
	}
	d.running, d.primary, d.hung = false, false, false
	_ = d.listener.Close()
	for f := range d.feeds {
		_ = f.conn.Close()
	}
	d.feed = nil
	d.unfollow()
	for _, c := range d.waiting {
		c.done <- false
	}
	d.waiting = nil
}

func (d *database) turn(open bool, why string) {
	d.turns = append(d.turns, turn{at: d.w.now(), open: open, why: why})
	d.w.logf("%s: clients in: %v (%s)", d.name, open, why)
}

// become makes it the primary. Called with world.mu held.
func (d *database) become(peer string) {
	d.start()
	d.held, d.peer = true, peer
	if d.primary {
		return
	}
	d.unfollow()
	d.promotes++
	d.w.timelines++
	d.eras = append(d.eras, era{Timeline: d.w.timelines, From: len(d.log)})
	d.primary = true
	d.turn(true, "promoted")
	d.books.opened(d)
	if d.onOpen != nil {
		d.onOpen()
	}
}

// write is one client's commit. It returns whether it was acknowledged, after that is known.
func (d *database) write() bool {
	d.w.mu.Lock()
	if !d.open() || d.draining || d.hung {
		d.w.mu.Unlock()
		return false
	}
	d.books.next++
	c := &commit{id: d.books.next, end: len(d.log) + 1, done: make(chan bool, 1)}
	d.log = append(d.log, c.id)
	d.waiting = append(d.waiting, c)
	d.flushed()
	for f := range d.feeds {
		f.kick()
	}
	d.w.mu.Unlock()
	return <-c.done
}

// flushed acknowledges what may be acknowledged. Called with world.mu held, whenever that may have changed.
func (d *database) flushed() {
	if !d.open() || d.hung {
		return
	}
	end := len(d.log)
	if d.held {
		end = d.mirrorHas()
	}
	n := 0
	for _, c := range d.waiting {
		if c.end > end {
			break
		}
		d.books.acknowledged(d, c.id)
		c.done <- true
		n++
	}
	d.waiting = d.waiting[n:]
}

// mirrorHas is how much of the log the peer is known to have on disk.
func (d *database) mirrorHas() int {
	if d.feed == nil || d.feed.from != d.peer {
		return 0
	}
	return d.feed.flushed
}

// state is one look at it. Called with world.mu held.
func (d *database) state() engine.State {
	st := engine.State{Running: d.running, Data: engine.DataEmpty, SystemID: d.system}
	if d.data {
		st.Data, st.Promotable = engine.DataPresent, true
	} else {
		st.NotPromotable = "no usable data"
	}
	st.Position = engine.Position{Timeline: d.timeline(), Offset: uint64(len(d.log))}
	if !d.running {
		return st
	}
	st.Run = fmt.Sprint("run-", d.run)
	st.Role = engine.RoleMirror
	st.Following = d.receiver != nil && d.receiver.live
	if d.primary {
		st.Role, st.Following, st.Commits = engine.RolePrimary, false, engine.CommitsAlone
		if d.held {
			st.Commits = engine.CommitsHeld
		}
		if d.feed != nil {
			st.Mirror.Attached = true
			st.Mirror.Flushed = engine.Position{Timeline: d.timeline(), Offset: uint64(d.feed.flushed)}
		}
	}
	return st
}

func (d *database) timeline() uint64 {
	if len(d.eras) == 0 {
		return 0
	}
	return d.eras[len(d.eras)-1].Timeline
}

// shared is how much of a log with those eras and that length is also the beginning of this one.
func (d *database) shared(eras []era, length int) int {
	endOf := func(eras []era, i, length int) int {
		if i+1 < len(eras) {
			return eras[i+1].From
		}
		return length
	}
	common := 0
	for i := range min(len(eras), len(d.eras)) {
		if eras[i] != d.eras[i] {
			break
		}
		common = min(endOf(eras, i, length), endOf(d.eras, i, len(d.log)))
	}
	return common
}

// rewind drops what the primary does not have. Called with world.mu held.
func (d *database) rewind(keep int) {
	if keep < len(d.log) {
		d.books.dropped(d, d.log[keep:])
		d.w.logf("%s: rewinds %d commits", d.name, len(d.log)-keep)
	}
	d.log = slices.Clip(d.log[:keep])
}

// crash kills the process as kill -9 does; its agent hears of it a millisecond later.
func (d *database) crash() {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	run := d.state().Run
	d.end("crashed")
	time.AfterFunc(time.Millisecond, func() { d.exits <- engine.Exit{Run: run, Reason: "killed"} })
}

// hang stops the process as SIGSTOP does, or lets it go on.
func (d *database) hang(yes bool) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.hung = yes && d.running
	d.flushed()
	for f := range d.feeds {
		f.kick()
	}
}

// turnsSince lists the turns at or after an instant.
func (d *database) turnsSince(from time.Duration) []turn {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	i := slices.IndexFunc(d.turns, func(t turn) bool { return t.at >= from })
	if i < 0 {
		return nil
	}
	return slices.Clone(d.turns[i:])
}

func (d *database) serves() bool {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.open()
}
