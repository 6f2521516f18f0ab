package kv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Upstream is whom a mirror follows, and what it may do to its own data for that.
type Upstream struct {
	Address string // host:port
	Name    string // under which this mirror's confirmations count
	// System is the database expected there; "" takes any, if this mirror has none yet.
	System string
	// AllowCopy lets a full copy replace data that cannot follow. An empty directory is always filled.
	AllowCopy bool
	// KeepDiverged writes commits that are cut off, and logs that are replaced, to files of their own.
	KeepDiverged bool
}

// receiver follows one upstream until it is halted.
type receiver struct {
	s      *Server
	up     Upstream
	cancel context.CancelFunc
	done   chan struct{}
	status UpstreamStatus // guarded by the server's mu
	meter  meter
}

// errEnded marks an outcome that trying again does not change.
var errEnded = errors.New("not tried again")

// Follow makes a mirror follow an upstream, from now on and until told otherwise. It does not wait for
// success: Status shows what comes of it. A mirror that follows it already is left alone.
func (s *Server) Follow(ctx context.Context, up Upstream) error {
	s.command.Lock()
	defer s.command.Unlock()
	if up.Address == "" || up.Name == "" {
		return &Refusal{Code: CodeSyntax, Text: "follow whom, under which name?"}
	}
	s.mu.Lock()
	role, recv := s.role, s.recv
	same := recv != nil && recv.up == up && !recv.status.Step.Ended()
	s.mu.Unlock()
	switch {
	case role == RolePrimary:
		return &Refusal{Code: CodePrimary, Text: "a primary becomes a mirror only by a restart"}
	case same:
		return nil
	}
	s.stopReceiver()
	// The log has one writer: what an abandoned promotion put into it must be out of the way.
	err := s.await(ctx, func() (bool, error) { return s.commits.flushed == s.commits.end, nil })
	if err != nil {
		return fmt.Errorf("follow %s: %w", up.Address, err)
	}
	life, cancel := context.WithCancel(s.life)
	recv = &receiver{s: s, up: up, cancel: cancel, done: make(chan struct{})}
	recv.status = UpstreamStatus{Address: up.Address, Name: up.Name, Step: StepAttach}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		cancel()
		return errStopping
	}
	s.recv = recv
	s.notify()
	go recv.run(life) // Ended by halt, which waits for it.
	return nil
}

// stopReceiver ends the receiver, if there is one. What it confirmed is in the log when it has ended.
func (s *Server) stopReceiver() {
	s.mu.Lock()
	recv := s.recv
	s.mu.Unlock()
	if recv == nil {
		return
	}
	recv.halt()
	s.mu.Lock()
	s.recv = nil
	s.notify()
	s.mu.Unlock()
}

func (r *receiver) halt() {
	r.cancel()
	<-r.done
}

// run attaches to the upstream again and again.
func (r *receiver) run(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		again, err := r.once(ctx)
		if errors.Is(err, errEnded) {
			r.s.log.ErrorContext(ctx, "not following", "upstream", r.up.Address, "error", err)
			return
		}
		if again {
			continue
		}
		r.report(func(st *UpstreamStatus) {
			if st.Following() {
				r.s.log.InfoContext(ctx, "lost the upstream", "upstream", r.up.Address, "error", err)
			}
			st.Step, st.Error = StepAttach, fmt.Sprint(err)
		})
		select {
		case <-ctx.Done():
		case <-time.After(r.s.opts.Retry):
		}
	}
}

// report changes the status that others see.
func (r *receiver) report(change func(*UpstreamStatus)) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	change(&r.status)
	r.s.notify()
}

// once connects, and receives until the connection ends. again says that the log was made to fit and
// that the upstream should be asked at once.
func (r *receiver) once(ctx context.Context) (again bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, r.s.opts.Silence)
	defer cancel()
	conn, err := r.s.opts.Dial(dialCtx, r.up.Address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(after(r.s.opts.Silence)); err != nil {
		return false, err
	}
	if _, err := conn.Write([]byte(r.hello().line() + "\n")); err != nil {
		return false, err
	}
	in := bufio.NewReaderSize(conn, 2*maxFrame)
	line, err := readLine(in)
	if err != nil {
		return false, err
	}
	w, err := parseWelcome(line)
	if err != nil {
		return false, r.endIfForeign(err)
	}
	if r.up.System != "" && w.system != r.up.System {
		return false, r.endIfForeign(&Refusal{Code: CodeForeign, Text: fmt.Sprintf(
			"database %s is there, and %s was expected", w.system, r.up.System)})
	}
	switch w.verdict {
	case verdictDiverged:
		return true, r.rewind(w)
	case verdictCopy:
		return true, r.becomeEmpty(w)
	case verdictStream:
		return false, r.receive(conn, in, w)
	default:
		return false, fmt.Errorf("answer to a mirror: %s", clip(line))
	}
}

func (r *receiver) hello() hello {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	h := hello{name: r.up.Name, system: s.image.system}
	if s.journal.damaged == "" {
		// A damaged log says nothing about itself, so that the primary offers a copy.
		h.end, h.history = s.commits.flushed, s.image.history
		h.fresh = s.incomplete && h.end == 0
	}
	return h
}

// endIfForeign ends the receiver if the upstream is another database.
func (r *receiver) endIfForeign(err error) error {
	var no *Refusal
	if !errors.As(err, &no) || no.Code != CodeForeign {
		return err
	}
	r.report(func(st *UpstreamStatus) { st.Step, st.Error = StepForeign, no.Text })
	return fmt.Errorf("%w: %w: %w", errEnded, ErrForeign, err)
}

// receive takes frames until the connection ends.
func (r *receiver) receive(conn net.Conn, in *bufio.Reader, w welcome) error {
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	r.begin(w)
	for {
		// What came whole before the connection ended is kept; on a bad line a copy would not advance
		// otherwise.
		batch, at, broken := r.nextBatch(conn, in)
		if err := r.s.store(batch, at); err != nil {
			return err
		}
		flushed := r.progress()
		if broken != nil {
			return broken
		}
		ack := frame{kind: frameAck, offset: flushed}
		if err := sendFrame(conn, ack, r.s.opts.Silence); err != nil {
			return err
		}
	}
}

// batchSize is about how much is put on disk with one sync while a mirror catches up.
const batchSize = 1 << 20

// nextBatch reads one frame, and whatever has come with it, so that one sync serves all of it. With an
// error it returns what came whole before.
func (r *receiver) nextBatch(conn net.Conn, in *bufio.Reader) (batch []byte, at int64, err error) {
	for {
		if err := conn.SetReadDeadline(after(r.s.opts.Silence)); err != nil {
			return batch, at, err
		}
		f, err := readFrame(in)
		if err != nil {
			return batch, at, err
		}
		switch f.kind {
		case framePing:
		case frameData:
			if len(batch) == 0 {
				at = f.offset
			} else if f.offset != at+int64(len(batch)) {
				return batch, at, errors.New("the upstream left something out")
			}
			batch = append(batch, f.payload...)
		default:
			return batch, at, fmt.Errorf("unknown frame %q", f.kind)
		}
		if !frameBuffered(in) || len(batch) >= batchSize {
			return batch, at, nil
		}
	}
}

// store puts received records on this disk and makes them visible. A mirror shows what it has on disk
// without knowing whether it was acknowledged; only a primary's reads are those of the database.
func (s *Server) store(batch []byte, at int64) error {
	if len(batch) == 0 {
		return nil
	}
	if at != s.journal.end {
		return fmt.Errorf("received offset %d while the log ends at %d", at, s.journal.end)
	}
	recs, err := parseRecords(batch, at)
	if err != nil {
		return fmt.Errorf("received: %w", err)
	}
	if err := s.journal.append(batch); err != nil {
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range recs {
		if err := s.image.take(rec); err != nil {
			return fmt.Errorf("received: %w", err)
		}
	}
	s.commits.start(s.journal.end)
	s.notify()
	return nil
}
