package gate

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// newCrew starts the loops; the last carrier takes what they cannot.
func newCrew(g *Gate) ([]carrier, error) {
	var crew []carrier
	for range g.o.Threads {
		l, err := newLoop(g)
		if err != nil {
			disband(crew)
			return nil, err
		}
		crew = append(crew, l)
	}
	return append(crew, newPlain(g)), nil
}

// loop is one thread that moves the bytes of many passages: it waits for events of all their sockets at once, and
// nothing that it does for one of them blocks. Only its own goroutine touches what is not marked otherwise.
//
// Events are edge-triggered: the kernel says once that a socket became readable or writable, and the loop
// remembers it until a call says otherwise. So a message costs one wait, one read and one write.
type loop struct {
	gate  *Gate
	epoll int
	bell  int // an eventfd that wakes the loop

	sockets []*socket // by descriptor
	all     map[*line]struct{}
	unready []*line // reused: see work
	ready   []*line // lines that have more to move than one turn allows

	block  []byte   // what is read goes through here
	blocks [][]byte // spare ones, for what could not be written at once
	pipes  []*pipe  // spare ones

	up, down atomic.Uint64

	mu     sync.Mutex
	orders []order
	closed bool
	ended  sync.WaitGroup
}

// order is what others ask of a loop: carry a line, cut a way, stop.
type order struct {
	line *line
	way  *way
	stop bool
	done chan struct{} // closed when it is done; nil if nobody waits
}

func newLoop(g *Gate) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll set: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	l := &loop{gate: g, epoll: epoll, bell: bell, all: map[*line]struct{}{}, block: make([]byte, blockSize)}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(bell)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, bell, &event); err != nil {
		l.release()
		return nil, fmt.Errorf("add an eventfd to an epoll set: %w", err)
	}
	l.ended.Go(l.run)
	return l, nil
}

// carry implements carrier: it takes TCP connections.
func (l *loop) carry(p *passage) bool {
	client := takeOver(p.client)
	if client < 0 {
		return false
	}
	server := takeOver(p.server)
	if server < 0 {
		_ = unix.Close(client)
		return false
	}
	_ = p.client.Close()
	_ = p.server.Close()
	l.order(order{line: newLine(p, client, server)})
	return true
}

// cut implements carrier.
func (l *loop) cut(w *way) <-chan struct{} {
	done := make(chan struct{})
	l.order(order{way: w, done: done})
	return done
}

func (l *loop) stop() {
	l.order(order{stop: true})
	l.ended.Wait()
}

func (l *loop) carried() (toServers, toClients uint64) { return l.up.Load(), l.down.Load() }

// order may be called by anybody.
func (l *loop) order(o order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		if o.done != nil {
			close(o.done)
		}
		return
	}
	l.orders = append(l.orders, o)
	if len(l.orders) == 1 {
		_, _ = unix.Write(l.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// eventsAtOnce is how many sockets are served between two looks at the orders.
const eventsAtOnce = 128

func (l *loop) run() {
	// A thread of its own stays where its caches are.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var events [eventsAtOnce]unix.EpollEvent
	for {
		n, err := eventsNow(l.epoll, events[:])
		if n == 0 && err == nil && len(l.ready) == 0 {
			n, err = unix.EpollWait(l.epoll, events[:], -1)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			// Only a descriptor that somebody else closed can do this; going on would be a busy loop.
			panic("gate: wait for events: " + err.Error())
		}
		rung := false
		for i := range max(n, 0) {
			if int(events[i].Fd) == l.bell {
				rung = true
				continue
			}
			if s := l.sockets[events[i].Fd]; s != nil { // nil: closed by an event before this one
				s.note(events[i].Events)
				l.turn(s.line)
			}
		}
		l.work()
		if rung && !l.obey() {
			return
		}
	}
}

// work gives one more turn to those who did not get to the end of theirs.
func (l *loop) work() {
	l.ready, l.unready = l.unready[:0], l.ready
	for _, n := range l.unready {
		n.queued = false
		if !n.closed {
			l.turn(n)
		}
	}
	clear(l.unready)
}

// obey does what was ordered, in that order. It returns false when the loop has ended.
func (l *loop) obey() bool {
	var bell [8]byte
	_, _ = unix.Read(l.bell, bell[:])
	l.mu.Lock()
	orders := l.orders
	l.orders = nil
	l.mu.Unlock()
	stop := false
	for _, o := range orders {
		switch {
		case o.line != nil:
			l.add(o.line)
		case o.way != nil:
			l.cutAll(func(n *line) bool { return n.way == o.way })
		case o.stop:
			stop = true
		}
		if o.done != nil {
			close(o.done)
		}
	}
	if !stop {
		return true
	}
	l.mu.Lock()
	l.closed = true // nobody gives orders to a gate that has stopped, apart from cuts
	rest := l.orders
	l.orders = nil
	l.mu.Unlock()
	l.cutAll(func(*line) bool { return true })
	for _, o := range rest {
		if o.line != nil {
			l.close(o.line, cutOff)
		}
		if o.done != nil {
			close(o.done)
		}
	}
	l.release()
	return false
}

// release gives back what the loop itself holds.
func (l *loop) release() {
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.bell)
	for _, p := range l.pipes {
		p.close()
	}
	l.pipes = nil
}

// add begins to carry a line.
func (l *loop) add(n *line) {
	if !n.way.open(l.gate.o.Clock) {
		l.close(n, cutOff)
		return
	}
	for i := range n.ends {
		s := &n.ends[i]
		if s.fd >= len(l.sockets) {
			l.sockets = append(l.sockets, make([]*socket, s.fd+1-len(l.sockets)+eventsAtOnce)...)
		}
		l.sockets[s.fd] = s
		event := unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(s.fd),
		}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
			l.close(n, broken)
			return
		}
	}
	l.all[n] = struct{}{}
	l.turn(n)
}

// cutAll resets lines. The clients' sides come first: no answer may pass, while the databases can wait.
func (l *loop) cutAll(which func(*line) bool) {
	var doomed []*line
	for n := range l.all {
		if which(n) {
			doomed = append(doomed, n)
		}
	}
	for _, n := range doomed {
		l.hangUp(&n.ends[clientEnd], cutOff)
	}
	for _, n := range doomed {
		l.close(n, cutOff)
	}
}

// ending is how a line ends.
type ending int

// What a line may come to.

const (
	goOn     ending = iota // not at all
	finished               // both sides have said all
	broken                 // one side is broken: the other hears a reset
	cutOff                 // its way is over
)

// close ends a line.
func (l *loop) close(n *line, how ending) {
	if n.closed {
		return
	}
	n.closed = true
	delete(l.all, n)
	for i := range n.ends {
		l.hangUp(&n.ends[i], how)
		l.drop(&n.flows[i])
	}
	l.gate.ended(n.passage, how == cutOff)
}

// hangUp closes one socket, once.
func (l *loop) hangUp(s *socket, how ending) {
	if s.fd < 0 {
		return
	}
	if s.fd < len(l.sockets) && l.sockets[s.fd] == s {
		l.sockets[s.fd] = nil
	}
	if how == finished {
		_ = unix.Close(s.fd)
	} else {
		reset(s.fd)
	}
	s.fd = -1
}

// spares bounds the blocks and the pipes that a loop keeps for later.
const spares = 16

func (l *loop) takeBlock() []byte {
	if n := len(l.blocks); n > 0 {
		b := l.blocks[n-1]
		l.blocks = slices.Delete(l.blocks, n-1, n)
		return b
	}
	return make([]byte, blockSize)
}

func (l *loop) giveBlock(b []byte) {
	if len(l.blocks) < spares {
		l.blocks = append(l.blocks, b[:blockSize])
	}
}
