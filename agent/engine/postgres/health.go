//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// An answer to a query proves little: it comes from memory, over a connection that was made in better times. So two
// things are tried in the background, and State.Stalled says for how long one of them has not ended:
//
//   - on a primary whose log does not grow by itself, a commit of the engine's own, on the local disk, which needs
//     the disk to answer (writeSomething);
//   - on any server, the greeting of a new client, which needs the postmaster to answer (knock).
//
// What is tried never holds up a look, and nothing is tried again before the last try has ended.

const (
	// writeEvery is how long the log may stand still before the engine writes something itself.
	writeEvery = time.Second
	// knockEvery is the pause between two greetings: each costs the server a process, and, with
	// log_connections on, a line in its log.
	knockEvery = 3 * time.Second
	// stallShown is what does not count as a stall: disks have longer pauses every now and then.
	stallShown = time.Second
	// stallStep is what one look adds to a stall at most: an agent that stood still has not waited.
	stallStep = 1200 * time.Millisecond
)

// health is what was tried, in one run of the server.
type health struct {
	mu sync.Mutex
	tries
}

type tries struct {
	run          string
	looked       time.Time
	flushed      lsn       // end of the log on disk, as seen last
	flushedAt    time.Time // when it was seen to move
	write, knock trial
}

// trial is one thing that is tried again and again.
type trial struct {
	underway bool
	ended    time.Time     // the last try
	waited   time.Duration // of the one under way
	failed   string        // how the last one failed, "" if it did not
}

// wait adds a look's time to a try under way, and begins one that is due.
func (t *trial) wait(passed time.Duration, due bool, try func() bool) {
	switch {
	case t.underway:
		t.waited += min(passed, stallStep)
	case due && try():
		t.underway, t.waited = true, 0
	}
}

// stall is how long the try under way has taken, if that is more than a moment.
func (t *trial) stall() time.Duration {
	if !t.underway || t.waited < stallShown {
		return 0
	}
	return t.waited
}

// checkedHealth is what health found: for how long something has stalled, and a sentence for operators.
type checkedHealth struct {
	stalled time.Duration
	warning string
}

// checkHealth tells what the tries have found, and goes on with them. It is called from one look at a time; flushed is
// where a primary's log ends on disk, 0 for a copy; alone says that a commit of the engine's own would be the end of
// a log that nobody else has.
func (e *Engine) checkHealth(ctx context.Context, r *run, flushed lsn, alone bool) checkedHealth {
	h := &e.health
	h.mu.Lock()
	defer h.mu.Unlock()
	at := now()
	if h.run != r.id {
		// The first commit is tried at once, for its connection: later there may be none to be had.
		h.tries = tries{run: r.id, flushed: flushed, looked: at}
	}
	passed := at.Sub(h.looked)
	h.looked = at
	if flushed != h.flushed {
		// The disk has taken something, whoever wrote it.
		h.flushed, h.flushedAt, h.write.waited, h.write.failed = flushed, at, 0, ""
	}
	primary := flushed != 0
	h.write.wait(passed, primary && !alone && at.Sub(h.flushedAt) >= writeEvery && at.Sub(h.write.ended) >= writeEvery,
		func() bool { return e.try(ctx, r, &h.write, e.writeSomething) })
	h.knock.wait(passed, at.Sub(h.knock.ended) >= knockEvery,
		func() bool { return e.try(ctx, r, &h.knock, e.knock) })
	return checkedHealth{max(h.write.stall(), h.knock.stall()), h.warning()}
}

// lookAtHealth fills in what a server that has answered a look does not do all the same, and what an operator should
// mend about it.
func (e *Engine) lookAtHealth(ctx context.Context, r *run, state *engine.State) {
	flushed := lsn(0)
	if state.Role == engine.RolePrimary {
		flushed = lsn(state.Position.Offset)
	}
	// While commits wait for a mirror that is not there, this host may be about to lose its right. What it wrote then
	// would part its log from the next primary's, and make a rewind of what could attach.
	alone := state.Commits == engine.CommitsHeld && !state.Mirror.Attached
	found := e.checkHealth(ctx, r, flushed, alone)
	state.Stalled = found.stalled
	both := slices.DeleteFunc([]string{found.warning, e.warnings(ctx, r)}, func(s string) bool { return s == "" })
	state.Warning = strings.Join(both, "; ")
}

// warning says what is wrong now. Its caller holds mu.
func (h *health) warning() string {
	var said []string
	if d := h.write.stall(); d > 0 {
		said = append(said, fmt.Sprintf("the log's disk has taken no commit for %v", d.Round(time.Second)))
	} else if h.write.failed != "" {
		said = append(said, "a commit of the agent's own failed: "+h.write.failed)
	}
	if d := h.knock.stall(); d > 0 {
		said = append(said, fmt.Sprintf("the server has answered no new client for %v", d.Round(time.Second)))
	} else if h.knock.failed != "" {
		said = append(said, "a new client gets no answer: "+h.knock.failed)
	}
	return strings.Join(said, "; ")
}

// try runs one try in the background. It has no limit of time: how long it takes is what it is for. It ends with
// the run.
func (e *Engine) try(ctx context.Context, r *run, t *trial, what func(context.Context, *run) error) bool {
	return e.background(func() {
		ctx, cancel := e.whileRuns(ctx, r, 0)
		defer cancel()
		err := what(ctx, r)
		h := &e.health
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.run != r.id {
			return // Of a run that has ended; the trial is another's now.
		}
		t.underway, t.waited, t.ended, t.failed = false, 0, now(), ""
		if err != nil && !errors.Is(err, context.Canceled) {
			t.failed = err.Error()
		}
	})
}

// writeSomething commits on the local disk only: the mirror's part is not the disk's fault.
func (e *Engine) writeSomething(ctx context.Context, r *run) error {
	_, err := e.writing.query(ctx, r, emitSQL)
	return err
}

// knock asks the server, as a new client would, whether it speaks TLS here, and goes away at the answer. PostgreSQL
// answers before it counts its clients, and takes going away then for normal.
func (e *Engine) knock(ctx context.Context, r *run) error {
	file, err := readPidFile(e.cfg.DataDir)
	if err != nil || file.pid != r.pid || file.socketDir == "" {
		return err
	}
	socket := filepath.Join(file.socketDir, ".s.PGSQL."+strconv.Itoa(int(file.port)))
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	sslRequest := []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	if _, err := conn.Write(sslRequest); err != nil {
		return fmt.Errorf("greet the server: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("greet the server: %w", err)
	}
	return nil
}

// dialUnix connects to a socket, however long that takes. Where so many wait already that no more may, the kernel
// refuses at once instead of letting the caller wait, which is the very thing that a knock is to find out.
func dialUnix(ctx context.Context, name string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", name)
		if !errors.Is(err, unix.EAGAIN) {
			return conn, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}
