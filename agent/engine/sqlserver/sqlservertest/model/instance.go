package model

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Instance is a running instance.
type Instance struct {
	options Options
	started time.Time
	knobs   *Knobs
	dead    chan struct{} // closed by Crash and Close
	buried  chan struct{} // closed when the loop has ended and let go of everything

	mutex   sync.Mutex // guards mailbox and ended
	mailbox []func()
	ended   bool
	mail    chan struct{}

	sockets sync.Mutex
	open    map[net.Conn]string // every connection; with a peer's name, one that is parked; nil after the end

	// What follows belongs to the loop.
	bound     string // address of the endpoint
	advertise string // what others call it
	listener  net.Listener
	stopped   bool // the endpoint, by ALTER ENDPOINT
	links     map[string]*link
	dialing   map[string]bool
	pinged    time.Time
	databases []*database
	nextID    int32
	sessions  []*session
	watched   []*watch
	groups    groupHook
}

// Open starts an instance on what is in its directory.
func Open(o Options) (*Instance, error) {
	o = withDefaults(o)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of instance %s: %w", o.Name, err)
	}
	i := &Instance{
		options: o, started: now(), knobs: newKnobs(), dead: make(chan struct{}), buried: make(chan struct{}),
		mail: make(chan struct{}, 1),
		open: map[net.Conn]string{}, links: map[string]*link{}, dialing: map[string]bool{}, nextID: firstUserID,
		stopped: o.Stopped,
	}
	i.knobs.wake = func() { i.post(func() {}) }
	i.knobs.reset = func(peer string) {
		i.post(func() {
			if l := i.links[peer]; l != nil {
				i.unlink(l)
			}
		})
	}
	if err := i.restore(); err != nil {
		return nil, err
	}
	i.groups = newGroups(i)
	if o.Endpoint != "" {
		if err := i.openEndpoint(); err != nil {
			i.closeFiles()
			return nil, err
		}
	}
	i.startSessions()
	go i.loop()
	go i.ticks()
	return i, nil
}

// firstUserID follows master, tempdb, model and msdb.
const firstUserID = 5

func withDefaults(o Options) Options {
	if o.Ping == 0 {
		o.Ping = time.Second
	}
	if o.Second == 0 {
		o.Second = time.Second
	}
	if o.EndpointRole == "" {
		o.EndpointRole = "ALL"
	}
	if o.Dial == nil {
		o.Dial = func(address string, timeout time.Duration) (net.Conn, error) {
			return net.DialTimeout("tcp", address, timeout)
		}
	}
	if o.Listen == nil {
		o.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	return o
}

// openEndpoint listens, so that the address is known, and closes again if the endpoint is stopped.
func (i *Instance) openEndpoint() error {
	listener, err := i.options.Listen(i.options.Endpoint)
	if err != nil {
		return fmt.Errorf("opening the mirroring endpoint of %s: %w", i.options.Name, err)
	}
	i.bound = listener.Addr().String()
	i.advertise = address(i.options.Advertise)
	if i.advertise == "" {
		i.advertise = address(i.bound)
	}
	if i.stopped {
		return listener.Close()
	}
	i.listener = listener
	go i.accept(listener)
	return nil
}

// post has the loop run f, after all that was posted before.
func (i *Instance) post(f func()) {
	i.mutex.Lock()
	i.mailbox = append(i.mailbox, f)
	i.mutex.Unlock()
	select {
	case i.mail <- struct{}{}:
	default:
	}
}

// run has the loop run f and waits for it; false if the instance has ended.
func (i *Instance) run(f func()) bool {
	done := make(chan struct{})
	i.post(func() { f(); close(done) })
	select {
	case <-done:
		return true
	case <-i.dead:
		return false
	}
}

// runUntil is run for a caller that may give up. What f does, and what it has captured, may then come later.
func (i *Instance) runUntil(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	i.post(func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-i.dead:
		return errDown()
	}
}

// await has the loop run f until it says that it is finished. After limit it gives late back.
func (i *Instance) await(ctx context.Context, limit time.Duration, late error, f func() (bool, error)) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		err := i.runUntil(ctx, func() error {
			finished, err := f()
			if err == nil && !finished {
				return errUnfinished
			}
			return err
		})
		if !errors.Is(err, errUnfinished) {
			return err
		}
		select {
		case <-time.After(awaitPause):
		case <-timer.C:
			return late
		case <-ctx.Done():
			return ctx.Err()
		case <-i.dead:
			return errDown()
		}
	}
}

// errUnfinished has await ask again.
var errUnfinished = errors.New("not finished")

const awaitPause = 2 * time.Millisecond

// loop owns the instance.
func (i *Instance) loop() {
	for {
		hung, changed := i.knobs.hanging()
		if hung {
			select {
			case <-changed:
			case <-i.dead:
				i.bury()
				return
			}
			continue
		}
		i.mutex.Lock()
		var next func()
		if len(i.mailbox) > 0 {
			next, i.mailbox = i.mailbox[0], i.mailbox[1:]
		}
		i.mutex.Unlock()
		select {
		case <-i.dead:
			i.bury()
			return
		default:
		}
		if next != nil {
			next()
			continue
		}
		select {
		case <-i.mail:
		case <-i.dead:
		}
	}
}

// ticks has the loop look at the clock every half ping, once at a time.
func (i *Instance) ticks() {
	ticker := time.NewTicker(i.options.Ping / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if !i.run(func() { i.tick(now()) }) {
				return
			}
		case <-i.dead:
			return
		}
	}
}

func (i *Instance) tick(at time.Time) {
	i.tickLinks(at)
	i.tickMirroring(at)
	i.groups.tick(at)
}

// bury closes what the loop owns, after the end.
func (i *Instance) bury() {
	if i.listener != nil {
		_ = i.listener.Close()
	}
	i.dropAll()
	for _, l := range i.links {
		close(l.closed)
	}
	i.closeFiles()
	close(i.buried)
}

func (i *Instance) closeFiles() {
	for _, d := range i.databases {
		_ = d.file.Close()
	}
}

// Crash ends the instance as kill -9 does. It returns when nothing of it is left; the same directory and ports can be
// opened again.
func (i *Instance) Crash() {
	i.mutex.Lock()
	first := !i.ended
	i.ended = true
	i.mutex.Unlock()
	if first {
		close(i.dead)
	}
	<-i.buried
}

// Close ends the instance. What is acknowledged is on the disk already, so it is not different from Crash.
func (i *Instance) Close() error {
	i.Crash()
	return nil
}

// Ended is closed when the instance has ended.
func (i *Instance) Ended() <-chan struct{} { return i.dead }

// Started is when the instance started, by its own clock.
func (i *Instance) Started() time.Time { return i.started }

// Name is @@SERVERNAME.
func (i *Instance) Name() string { return i.options.Name }

// Knobs break the instance.
func (i *Instance) Knobs() *Knobs { return i.knobs }

// EndpointAddress is host:port by which other instances name this one; "" without an endpoint.
func (i *Instance) EndpointAddress() string {
	return i.advertise
}

// EndpointState is the row of sys.database_mirroring_endpoints; role "" without an endpoint.
func (i *Instance) EndpointState() (role, state string, port int) {
	i.run(func() {
		if i.bound == "" {
			return
		}
		role, state = i.options.EndpointRole, "STARTED"
		if i.stopped {
			state = "STOPPED"
		}
		if tcp, err := net.ResolveTCPAddr("tcp", i.bound); err == nil {
			port = tcp.Port
		}
	})
	return role, state, port
}

// AlterEndpoint starts or stops the mirroring endpoint, and remembers it. A stopped one has no links.
func (i *Instance) AlterEndpoint(_ context.Context, started bool) error {
	var err error
	if !i.run(func() { err = i.alterEndpoint(started) }) {
		return errDown()
	}
	return err
}

func (i *Instance) alterEndpoint(started bool) error {
	if i.bound == "" {
		return fail(7872, "There is no mirroring endpoint.")
	}
	if i.stopped == !started {
		return nil
	}
	i.stopped = !started
	if err := i.save(); err != nil {
		return err
	}
	if started {
		return i.listen()
	}
	err := i.listener.Close()
	i.listener = nil
	for _, l := range i.links {
		i.unlink(l)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
