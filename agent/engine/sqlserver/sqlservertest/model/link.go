package model

import (
	"bufio"
	"encoding/gob"
	"net"
	"sync"
	"time"
)

// This file is the link between two instances: one TCP connection, dialled by whoever wants it, over which both send
// messages and a ping each Options.Ping. It is lost when the connection is, or when the shortest time-out of those who
// use it has passed, and a ping, without a word. Messages of a lost link are never delivered later.

// link is an open connection to a peer. Its fields belong to the loop, the outbox apart.
type link struct {
	peer   string
	name   string // @@SERVERNAME there
	role   string // of its endpoint
	mine   bool   // dialled from here
	conn   net.Conn
	heard  time.Time
	closed chan struct{}
	box    *outbox
}

// outbox is what the writer has still to send; without limit, so that the loop never waits for a socket.
type outbox struct {
	mutex sync.Mutex
	queue []queued
	ready chan struct{}
}

type queued struct {
	at time.Time
	m  message
}

func (o *outbox) put(m message) {
	o.mutex.Lock()
	o.queue = append(o.queue, queued{now(), m})
	o.mutex.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

func (o *outbox) take() (queued, bool) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if len(o.queue) == 0 {
		return queued{}, false
	}
	q := o.queue[0]
	o.queue = o.queue[1:]
	return q, true
}

// link is the open link to a peer, nil if there is none.
func (i *Instance) link(peer string) *link { return i.links[peer] }

// send queues a message for a peer; without a link it is dropped.
func (i *Instance) send(peer string, m message) {
	if l := i.links[peer]; l != nil {
		l.box.put(m)
	}
}

// listen opens the endpoint.
func (i *Instance) listen() error {
	at := i.bound
	if at == "" {
		at = i.options.Endpoint
	}
	listener, err := i.options.Listen(at)
	if err != nil {
		return err
	}
	i.listener, i.bound = listener, listener.Addr().String()
	go i.accept(listener)
	return nil
}

// accept runs on a goroutine of its own until the listener is closed.
func (i *Instance) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go i.greet(conn)
	}
}

// greet reads the hello of one who dialled.
func (i *Instance) greet(conn net.Conn) {
	if !i.track(conn) {
		return
	}
	in, out := gob.NewDecoder(bufio.NewReader(conn)), gob.NewEncoder(conn)
	var h hello
	_ = conn.SetDeadline(now().Add(dialLimit))
	if err := in.Decode(&h); err != nil {
		i.drop(conn)
		return
	}
	i.untilHeard(h.From, i.dead)
	if i.silent(h.From) {
		i.park(h.From, conn)
		return
	}
	answer := func() bool {
		err := out.Encode(hello{From: i.advertise, To: h.From, Name: i.options.Name, Role: i.options.EndpointRole})
		_ = conn.SetDeadline(time.Time{})
		return err == nil
	}
	i.post(func() { i.adopt(h, conn, in, out, false, answer) })
}

const dialLimit = 5 * time.Second

// dial opens a link to a peer; it runs on a goroutine of its own.
func (i *Instance) dial(peer string) {
	failed := func() { i.post(func() { delete(i.dialing, peer) }) }
	conn, err := i.options.Dial(peer, dialLimit)
	if err != nil || !i.track(conn) {
		failed()
		return
	}
	in, out := gob.NewDecoder(bufio.NewReader(conn)), gob.NewEncoder(conn)
	_ = conn.SetDeadline(now().Add(dialLimit))
	err = out.Encode(hello{From: i.advertise, To: peer, Name: i.options.Name, Role: i.options.EndpointRole})
	var h hello
	if err == nil {
		err = in.Decode(&h)
	}
	_ = conn.SetDeadline(time.Time{})
	if err != nil || i.silent(peer) {
		i.drop(conn)
		failed()
		return
	}
	h.From = peer // as it is called here
	i.post(func() {
		delete(i.dialing, peer)
		i.adopt(h, conn, in, out, true, nil)
	})
}

// adopt makes a connection the link to a peer. Of two that were dialled at the same time the one stays that the lower
// address dialled.
func (i *Instance) adopt(
	h hello, conn net.Conn, in *gob.Decoder, out *gob.Encoder, mine bool, answer func() bool,
) {
	old := i.links[h.From]
	low := i.advertise < h.From
	switch {
	case i.stopped || i.listener == nil || now().Sub(i.started) < i.options.Quiet:
		i.drop(conn)
		return
	case mine && old != nil && !low:
		i.drop(conn)
		return
	case !mine && low && (i.dialing[h.From] || old != nil && now().Sub(old.heard) < 2*i.options.Ping):
		i.drop(conn)
		return
	}
	if old != nil {
		i.unlink(old)
	}
	if answer != nil && !answer() {
		i.drop(conn)
		return
	}
	l := &link{
		peer: h.From, name: h.Name, role: h.Role, mine: mine, conn: conn, heard: now(), closed: make(chan struct{}),
		box: &outbox{ready: make(chan struct{}, 1)},
	}
	i.links[h.From] = l
	go i.read(l, in)
	go i.write(l, out)
	i.mirroringLinked(h.From)
	i.groups.linked(h.From)
}

// read hands what arrives to the loop, in order.
func (i *Instance) read(l *link, in *gob.Decoder) {
	for {
		var m message
		err := in.Decode(&m)
		i.untilHeard(l.peer, l.closed)
		at := now()
		if err != nil {
			i.post(func() {
				if i.links[l.peer] == l {
					i.unlink(l)
				}
			})
			return
		}
		i.post(func() {
			if i.links[l.peer] != l {
				return
			}
			l.heard = at
			switch m.Kind {
			case kindPing:
			case kindGroup:
				i.groups.received(l.peer, m)
			default:
				i.mirroringReceived(l.peer, m)
			}
		})
	}
}

// write sends what is in the outbox, when the knobs let it.
func (i *Instance) write(l *link, out *gob.Encoder) {
	for {
		q, ok := l.box.take()
		if !ok {
			select {
			case <-l.box.ready:
				continue
			case <-l.closed:
				return
			}
		}
		for {
			knob, changed := i.knobs.peer(l.peer)
			left := knob.delay - now().Sub(q.at)
			if !knob.out && left <= 0 {
				break
			}
			var timer <-chan time.Time
			if left > 0 {
				timer = time.After(left)
			}
			select {
			case <-changed:
			case <-timer:
			case <-l.closed:
				return
			}
		}
		if err := out.Encode(q.m); err != nil {
			return // the reader notices as well, and tells
		}
	}
}

// untilHeard waits while what comes from a peer is cut.
func (i *Instance) untilHeard(peer string, closed <-chan struct{}) {
	for {
		knob, changed := i.knobs.peer(peer)
		if !knob.in {
			return
		}
		select {
		case <-changed:
		case <-closed:
			return
		}
	}
}

// silent says that the link to a peer is cut in a direction.
func (i *Instance) silent(peer string) bool {
	knob, _ := i.knobs.peer(peer)
	return knob.in || knob.out
}

// unlink gives a link up and tells those who used it.
func (i *Instance) unlink(l *link) {
	delete(i.links, l.peer)
	close(l.closed)
	if i.silent(l.peer) {
		i.park(l.peer, l.conn)
	} else {
		i.drop(l.conn)
	}
	i.mirroringLost(l.peer)
	i.groups.lost(l.peer)
}

// park keeps a connection open whose link is cut: to close it would tell the other side.
func (i *Instance) park(peer string, conn net.Conn) {
	i.sockets.Lock()
	defer i.sockets.Unlock()
	if i.open != nil {
		i.open[conn] = peer
	}
}

// track notes an open connection, so that Crash closes it; false, with the connection closed, after Crash.
func (i *Instance) track(conn net.Conn) bool {
	i.sockets.Lock()
	defer i.sockets.Unlock()
	if i.open == nil {
		reset(conn)
		return false
	}
	i.open[conn] = ""
	return true
}

// drop closes a connection; the other side sees a reset.
func (i *Instance) drop(conn net.Conn) {
	i.sockets.Lock()
	delete(i.open, conn)
	i.sockets.Unlock()
	reset(conn)
}

// unpark closes the parked connections of links that are no longer cut.
func (i *Instance) unpark() {
	i.sockets.Lock()
	defer i.sockets.Unlock()
	for conn, peer := range i.open {
		if peer != "" && !i.silent(peer) {
			delete(i.open, conn)
			reset(conn)
		}
	}
}

func (i *Instance) dropAll() {
	i.sockets.Lock()
	defer i.sockets.Unlock()
	for conn := range i.open {
		reset(conn)
	}
	i.open = nil
}

func reset(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}

// tickLinks pings, gives silent links up, and dials those that are wanted.
func (i *Instance) tickLinks(at time.Time) {
	i.unpark()
	if i.listener == nil || at.Sub(i.started) < i.options.Quiet {
		return
	}
	wanted := i.groups.peers()
	if wanted == nil {
		wanted = map[string]time.Duration{}
	}
	dialled := map[string]bool{}
	for peer := range wanted {
		dialled[peer] = true
	}
	i.mirroringPeers(func(peer string, silence time.Duration, dial bool) {
		if was, ok := wanted[peer]; !ok || silence < was {
			wanted[peer] = silence
		}
		dialled[peer] = dialled[peer] || dial
	})
	due := at.Sub(i.pinged) >= i.options.Ping
	for peer, l := range i.links {
		silence, ok := wanted[peer]
		switch {
		case ok && at.Sub(l.heard) > silence+i.options.Ping:
			i.unlink(l)
		case due:
			l.box.put(message{Kind: kindPing})
		}
	}
	if due {
		i.pinged = at
	}
	for peer := range dialled {
		if i.links[peer] == nil && !i.dialing[peer] && !i.silent(peer) && peer != i.advertise {
			i.dialing[peer] = true
			go i.dial(peer)
		}
	}
}
