package model

import (
	"sync"
	"time"
)

// Knobs break an instance on purpose. They are turned from any goroutine, hold until turned back, and are gone after a
// restart. A peer is named by its endpoint's address, host:port.
type Knobs struct {
	mutex   sync.Mutex
	changed chan struct{} // closed at every change, then replaced
	hung    bool
	peers   map[string]peerKnob
	disks   map[string]Disk
	redo    map[string]bool
	redoBad map[string]bool
	next    map[string][]planned
	wake    func() // has the instance's loop look
	reset   func(peer string)
}

type peerKnob struct {
	out, in bool // cut
	delay   time.Duration
}

// Disk is what is wrong with a database's disks.
type Disk struct {
	LogFull bool // commits fail with 9002
	LogBad  bool // the next commit fails for good: the database is SUSPECT and its partner takes over if it may
	DataBad bool // reads fail with 823; nobody else notices
}

// planned is what the next command of a kind does.
type planned struct {
	verb  Verb
	error *Error // nil: acknowledged, and nothing happens
}

func newKnobs() *Knobs {
	return &Knobs{
		changed: make(chan struct{}), peers: map[string]peerKnob{}, disks: map[string]Disk{},
		redo: map[string]bool{}, redoBad: map[string]bool{}, next: map[string][]planned{},
	}
}

func (k *Knobs) change(f func()) {
	k.mutex.Lock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
	wake := k.wake
	k.mutex.Unlock()
	if wake != nil {
		wake()
	}
}

// Hang stops everything that the instance does, pings included, without closing a socket; false lets it go on.
func (k *Knobs) Hang(hung bool) { k.change(func() { k.hung = hung }) }

// Cut silences the link to a peer: nothing goes out, nothing comes in, or neither; nobody is told. What was under way
// arrives when the link is mended, if both sides still hold on to it.
func (k *Knobs) Cut(peer string, out, in bool) {
	k.change(func() {
		p := k.peers[address(peer)]
		p.out, p.in = out, in
		k.peers[address(peer)] = p
	})
}

// Delay holds back everything that is sent to a peer.
func (k *Knobs) Delay(peer string, by time.Duration) {
	k.change(func() {
		p := k.peers[address(peer)]
		p.delay = by
		k.peers[address(peer)] = p
	})
}

// Reset closes the link to a peer at once, which both sides see; it can be opened anew.
func (k *Knobs) Reset(peer string) { k.reset(address(peer)) }

// Disk says what is wrong with a database's disks; the zero Disk mends them, but a SUSPECT database stays SUSPECT
// until the instance is started anew.
func (k *Knobs) Disk(db string, d Disk) { k.change(func() { k.disks[fold(db)] = d }) }

// StopRedo has a mirror harden log and apply none of it.
func (k *Knobs) StopRedo(db string, stopped bool) { k.change(func() { k.redo[fold(db)] = stopped }) }

// FailRedo has a mirror meet an error at redo, as with a full disk: it suspends the session.
func (k *Knobs) FailRedo(db string, failing bool) { k.change(func() { k.redoBad[fold(db)] = failing }) }

// FailNext has the next command of a kind on a database fail with err; with nil it is acknowledged, and then nothing
// happens ("can complete successfully when entered, but fail later").
func (k *Knobs) FailNext(db string, verb Verb, err *Error) {
	k.change(func() { k.next[fold(db)] = append(k.next[fold(db)], planned{verb, err}) })
}

func (k *Knobs) peer(peer string) (peerKnob, <-chan struct{}) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.peers[peer], k.changed
}

func (k *Knobs) hanging() (bool, <-chan struct{}) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.hung, k.changed
}

func (k *Knobs) disk(db string) Disk {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.disks[fold(db)]
}

func (k *Knobs) redoOf(db string) (stopped, failing bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.redo[fold(db)], k.redoBad[fold(db)]
}

// plan takes what was planned for this command.
func (k *Knobs) plan(db string, verb Verb) (planned, bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	list := k.next[fold(db)]
	for n, p := range list {
		if p.verb == verb {
			k.next[fold(db)] = append(list[:n:n], list[n+1:]...)
			return p, true
		}
	}
	return planned{}, false
}
