package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits and intervals. They are a demonstration's; a test may set the intervals in Options.
const (
	// maxLine bounds a client's command, and with it a record of the log.
	maxLine = 256 << 10
	// maxKey bounds a key, so that an error message can name it.
	maxKey = 512
	// maxConns bounds all connections. Clients get fewer, so that a mirror can always connect.
	maxConns   = 1024
	maxClients = 900
	// maxMirrors bounds the mirrors that are fed; a pair has one.
	maxMirrors = 8

	// A connection between primary and mirror is given up after a second without a word, since a cut or
	// frozen partner sends no end. Four pings fit into it, so that one late packet is not an end.
	defaultPing    = 250 * time.Millisecond
	defaultSilence = time.Second
	// defaultRetry is the pause after which a mirror dials again.
	defaultRetry = 100 * time.Millisecond
	// stopPatience is how long a clean stop waits for commits and clients before it cuts them off.
	stopPatience = 500 * time.Millisecond
)

// Role is what a server is right now.
type Role string

// The roles of a server.
const (
	RoleMirror  Role = "mirror"
	RolePrimary Role = "primary"
)

// Options say where a server keeps its data and how it is reached.
type Options struct {
	Dir string
	// Listener accepts clients and mirrors. The server closes it.
	Listener net.Listener
	// Listen is what to show as the address listened on; the listener's own address if "".
	Listen string
	// AdminSocket is the path of the admin socket; "" means none, for a server inside another program,
	// which calls the methods instead.
	AdminSocket string
	// Dial reaches a primary. A test under virtual time brings its own network.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Ping, Silence and Retry are for tests; 0 means the default.
	Ping, Silence, Retry time.Duration
	Logger               *slog.Logger
}

// Server is one running copy of a database.
type Server struct {
	opts    Options
	log     *slog.Logger
	run     string // drawn at random at every start
	claim   *claim
	journal *journal
	admin   net.Listener
	// life ends when nothing may be written or acknowledged any more.
	life context.Context
	halt context.CancelCauseFunc

	// command is held by the one administrator's command that runs. It is taken before mu.
	command sync.Mutex

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changed
	role    Role
	closing bool // a hand-over or a stop is under way: no new writes
	image   *image
	commits pipeline
	mirrors map[string]*feed // by the name that the mirror gave
	recv    *receiver        // nil while no upstream is known
	// incomplete holds while the copy is known to lack something, until the log reaches target.
	incomplete bool
	target     int64
	discarded  int // commits cut off in this run
	conns      map[net.Conn]struct{}
	clients    int

	flushNow chan struct{} // capacity 1: there is something to flush
	stopOnce sync.Once
	stop     chan struct{} // closed when the server is to end
	stopErr  error         // why; set before stop is closed
	kill     bool          // set before stop is closed: end without another word or write
	flushers sync.WaitGroup
	serving  sync.WaitGroup
	done     chan struct{} // closed when everything has ended
}

// Start opens the database of a directory, or an empty directory, and serves it as a mirror. A directory
// has one server: the kernel refuses another process. Within one process the caller has to see to it.
func Start(o Options) (*Server, error) {
	if o.Dir == "" || o.Listener == nil {
		return nil, errors.New("a server needs a data directory and a listener")
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	data, err := classify(o.Dir)
	if err != nil {
		return nil, err
	}
	claim, err := takeClaim(o.Dir, Owner{Admin: o.AdminSocket})
	if err != nil {
		return nil, err
	}
	journal, image, err := openJournal(o.Dir)
	if err != nil {
		return nil, errors.Join(err, claim.release())
	}
	s := &Server{
		opts: o, run: randomID(), claim: claim, journal: journal, image: image,
		role: RoleMirror, incomplete: data == DataIncomplete,
		changed: make(chan struct{}), flushNow: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
		mirrors: map[string]*feed{}, conns: map[net.Conn]struct{}{},
	}
	//nolint:forbidigo // A server lives until somebody ends it, longer than the call that starts it.
	s.life, s.halt = context.WithCancelCause(context.Background())
	s.commits.start(journal.end)
	s.log = o.Logger.With("run", s.run)
	if err := s.listenAdmin(); err != nil {
		return nil, errors.Join(err, journal.close(), claim.release())
	}
	s.begin()
	return s, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.AdminSocket != "" {
		// Others read the path in the claim, and their working directory is another.
		path, err := filepath.Abs(o.AdminSocket)
		if err != nil {
			return o, fmt.Errorf("admin socket: %w", err)
		}
		o.AdminSocket = path
	}
	if o.Listen == "" {
		o.Listen = o.Listener.Addr().String()
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.Ping, defaultPing}, {&o.Silence, defaultSilence}, {&o.Retry, defaultRetry}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return o, nil
}

// listenAdmin opens the admin socket. Whoever may write to it may promote, so only the owner may. A
// socket of that name is left from a run that was killed: the claim proves that nobody uses it.
func (s *Server) listenAdmin() error {
	if s.opts.AdminSocket == "" {
		return nil
	}
	path := s.opts.AdminSocket
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	var err error
	if s.admin, err = net.Listen("unix", path); err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), s.admin.Close())
	}
	return nil
}

// begin starts the server's goroutines: one that flushes, one per listener, one that ends it all.
func (s *Server) begin() {
	status := s.Status()
	s.log.Info("serving as a mirror", "dir", s.opts.Dir, "listen", s.opts.Listen,
		"data", status.Data, "system", status.System, "timeline", status.Position.Timeline,
		"offset", status.Position.Offset, "keys", status.Keys)
	if s.journal.torn > 0 {
		s.log.Info("cut an unfinished write off the log", "bytes", s.journal.torn)
	}
	if s.journal.damaged != "" {
		s.log.Error("log is damaged", "reason", s.journal.damaged)
	}
	s.flushers.Go(s.flush)
	s.serving.Go(func() { s.accept(s.opts.Listener, false) })
	if s.admin != nil {
		s.serving.Go(func() { s.accept(s.admin, true) })
	}
	go s.end() // Wait, Close and Kill wait for it.
}

// Wait returns when the server has ended; the error says why, if nobody asked for it.
func (s *Server) Wait() error {
	<-s.done
	return s.stopErr
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the server cleanly: commits that only need this disk are finished and answered.
func (s *Server) Close() error {
	s.requestStop(nil, false)
	return s.Wait()
}

// Kill ends the server as kill -9 does, for tests that run it inside another program: what was not on
// its way to the disk is lost and nobody gets another answer.
func (s *Server) Kill() {
	s.requestStop(nil, true)
	<-s.done
}

// requestStop makes the server end. Only the first call counts, but a kill overtakes a clean stop.
func (s *Server) requestStop(err error, kill bool) {
	s.mu.Lock()
	s.kill = s.kill || kill
	s.closing = true
	s.notify()
	s.mu.Unlock()
	s.stopOnce.Do(func() {
		s.stopErr = err
		close(s.stop)
	})
}

// fail ends the server because its disk failed. Which entries are on disk is not known then, so no other
// way out is safe: the next start reads the log and finds out.
func (s *Server) fail(err error) {
	s.log.Error("ending because the log cannot be written", "error", err)
	s.requestStop(err, true)
}

// end waits until the server is to end and takes it down in order.
func (s *Server) end() {
	defer close(s.done)
	<-s.stop
	_ = s.opts.Listener.Close()
	if s.admin != nil {
		_ = s.admin.Close()
	}
	s.settle()
	s.mu.Lock()
	s.halt(errStopping)
	recv, kill := s.recv, s.kill
	if kill {
		s.cutConns() // Before anybody is told anything.
	}
	s.commits.abandon()
	s.dropMirrors()
	s.mu.Unlock()
	if recv != nil {
		recv.halt()
	}
	impatient := s.dismissClients()
	s.serving.Wait()
	impatient.Stop()
	s.flushers.Wait()
	if err := errors.Join(s.journal.close(), s.claim.release()); err != nil {
		s.log.Warn("closing files", "error", err)
	}
	s.log.Info("ended")
}

// settle gives commits that wait a moment to finish. Those that wait for a mirror which is not there
// would not finish, and nobody is kept waiting for them.
func (s *Server) settle() {
	ctx, cancel := context.WithTimeout(s.life, stopPatience)
	defer cancel()
	err := s.await(ctx, func() (bool, error) {
		hopeless := s.commits.held && s.mirrors[s.commits.mirror] == nil
		flushed := s.commits.flushed == s.commits.end
		return s.kill || flushed && (hopeless || len(s.commits.waiting) == 0), nil
	})
	if err != nil {
		s.log.Warn("ending with commits that wait", "error", err)
	}
}

// await returns when the condition, evaluated under mu, holds or fails, or when ctx or the server ends.
func (s *Server) await(ctx context.Context, condition func() (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := condition()
		changed := s.changed
		s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.life.Done():
			return errStopping
		}
	}
}

// notify wakes everybody who waits for a change. Called with mu held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
