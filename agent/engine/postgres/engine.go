//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

var _ engine.Engine = (*Engine)(nil)

// Engine drives one PostgreSQL instance.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	bin  string
	user osUser

	exits    chan engine.Exit
	watchers sync.WaitGroup
	turn     chan struct{}  // held by the one call that may change the instance
	looking  *session       // Observe's connection
	acting   *session       // the connection of the call that holds the turn
	noticing *session       // the connection that looks for warnings
	writing  *session       // the connection of health's writes
	closing  chan struct{}  // closed by Close
	errands  sync.WaitGroup // work in the background
	lookTurn chan struct{}  // one look at a time, also when the disk hangs under it

	// adopting is held while a server becomes the current run, so that Observe does not adopt a server
	// that the engine is just starting.
	adopting sync.Mutex

	// gating is held for writing while LetGo takes the restart gate away, and for reading by all who put
	// it in place: Fence must find it whole after it has cut LetGo short, and must not wait for anybody
	// else.
	gating sync.RWMutex

	mu       sync.Mutex // guards what follows; never held while waiting
	closed   bool
	current  *run
	cancel   context.CancelCauseFunc // of the call that holds the turn
	fencing  int                     // calls of Fence that have not returned
	receiver string                  // the mirror's name, once a peer was named
	proof    holdProof
	step     string // what a long Follow is doing
	timeline knownTimeline
	checked  checkedConfig

	control      control
	controlStamp string

	warned   kept
	catching catchUp // belongs to the look, of which there is one at a time
	health   health

	traps      knownTraps
	remembered remembered
}

// New prepares to drive an instance. It changes nothing, on disk or in a running server: an agent that only
// observes must leave no trace.
func New(cfg Config, logger *slog.Logger) (*Engine, error) {
	e, err := build(cfg, logger)
	if err != nil {
		return nil, err
	}
	if _, err := e.server(); err != nil {
		return nil, err
	}
	return e, nil
}

// build makes an engine that has not yet looked for a server.
func build(cfg Config, logger *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration of the postgres engine: %w", err)
	}
	user, err := lookUser(cfg.OSUser)
	if err != nil {
		return nil, err
	}
	if cfg.BinDir == "" {
		if cfg.BinDir, err = FindBinaries(); err != nil {
			return nil, err
		}
	}
	for _, program := range []string{"postgres", "pg_controldata", "pg_basebackup", "pg_rewind"} {
		if _, err := os.Stat(filepath.Join(cfg.BinDir, program)); err != nil {
			return nil, fmt.Errorf("bin_dir: %w; install PostgreSQL's server package there", err)
		}
	}
	if cfg.DataDir, err = resolve(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if cfg.Advertise == "" {
		cfg.Advertise = cfg.Listen
	}
	if cfg.LogFile == "" {
		cfg.LogFile = cfg.DataDir + ".log"
	}
	e := &Engine{
		cfg: cfg, log: logger, bin: cfg.BinDir, user: user,
		exits:    make(chan engine.Exit, exitQueue),
		turn:     make(chan struct{}, 1),
		lookTurn: make(chan struct{}, 1),
		closing:  make(chan struct{}),
	}
	e.looking, e.acting, e.noticing, e.writing = newSession(e), newSession(e), newSession(e), newSession(e)
	return e, nil
}

// resolve follows links: a server's processes are recognized by the data directory's true name.
func resolve(dir string) (string, error) {
	target, err := filepath.EvalSymlinks(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("its parent must exist: %w", err)
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// Kind names the engine.
func (e *Engine) Kind() string { return "postgres" }

// Address is where clients and the partner reach the instance.
func (e *Engine) Address() string { return e.cfg.Advertise }

// Exits tells of servers that ended without the agent's asking.
func (e *Engine) Exits() <-chan engine.Exit { return e.exits }

// Close lets go of the instance and leaves it running as it is. The caller has ended its other calls.
func (e *Engine) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	r := e.current
	e.mu.Unlock()
	if r != nil {
		_ = r.handle.Close() // Ends its watcher; an error means that it has ended already.
	}
	e.watchers.Wait()
	e.awaitBackground()
	//nolint:forbidigo // An interface without a context; each connection is given 100 ms to say goodbye.
	ctx := context.Background()
	e.looking.close(ctx)
	e.acting.close(ctx)
	e.noticing.close(ctx)
	e.writing.close(ctx)
	return nil
}

// closePatience is how long Close waits for work in the background, which a hung disk may hold for ever.
const closePatience = time.Second

// awaitBackground waits for work in the background, but not for work that a disk holds.
func (e *Engine) awaitBackground() {
	ended := make(chan struct{})
	go func() { e.errands.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(closePatience):
		e.log.Warn("work in the background has not ended; a disk may hang")
	}
}

// background runs work on a goroutine of its own, unless the engine is closed.
func (e *Engine) background(work func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.errands.Go(work)
	return true
}

// whileRuns is a context for work in the background about run r: it ends with the run, with the engine, and
// after limit (0: never), but not with the call that began the work.
func (e *Engine) whileRuns(ctx context.Context, r *run, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if limit > 0 {
		bounded, end := context.WithTimeout(ctx, limit)
		whole := cancel
		ctx, cancel = bounded, func() { end(); whole() }
	}
	stop := cancel
	e.background(func() {
		select {
		case <-r.gone:
		case <-e.closing:
		case <-ctx.Done():
		}
		stop()
	})
	return ctx, cancel
}

// call runs work as the only call that changes the instance, and ends it when Fence is called.
func (e *Engine) call(ctx context.Context, doing string, work func(context.Context) error) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%s: wait for the call before: %w", doing, context.Cause(ctx))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.mu.Lock()
	closed, fencing := e.closed, e.fencing > 0
	e.cancel = cancel
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.cancel = nil
		e.step = ""
		e.mu.Unlock()
	}()
	switch {
	case closed:
		return fmt.Errorf("%s: the engine is closed", doing)
	case fencing:
		return fmt.Errorf("%s: %w", doing, engine.ErrFenced)
	}
	err := work(ctx)
	if errors.Is(context.Cause(ctx), engine.ErrFenced) {
		// Whatever work has reached, Fence has undone it or is about to.
		if err != nil && !errors.Is(err, engine.ErrFenced) {
			return fmt.Errorf("%s: %w: %w", doing, engine.ErrFenced, err)
		}
		return fmt.Errorf("%s: %w", doing, engine.ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// named remembers the mirror's name, by which Observe finds its row.
func (e *Engine) named(peer engine.Peer) string {
	name := receiverName(peer.Pair)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.receiver = name
	return name
}

// listenHost and listenPort are the two halves of the listen address, as PostgreSQL's settings want them.
func (e *Engine) listenHost() string {
	host, _, _ := net.SplitHostPort(e.cfg.Listen) // Validate has split it before.
	if host == "" {
		return "*"
	}
	return host
}

func (e *Engine) listenPort() string {
	_, port, _ := net.SplitHostPort(e.cfg.Listen)
	return port
}

// listenSettings say where the server listens. The agent gives them on the command line.
func (e *Engine) listenSettings() []setting {
	return []setting{
		{"listen_addresses", e.listenHost()},
		{"port", e.listenPort()},
		{"unix_socket_directories", e.cfg.SocketDir},
	}
}
