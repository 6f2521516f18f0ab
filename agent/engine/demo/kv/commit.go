package kv

import (
	"errors"
	"fmt"
)

// errStopping says that the server ends.
var errStopping = errors.New("the server is stopping")

// pipeline takes entries from "in the log" over "on this disk" to "acknowledged". Everything that decides
// whether a commit may be acknowledged is here and under the server's mu, so a change of the mode takes
// effect for every commit that was not acknowledged before it.
type pipeline struct {
	tail      []byte    // entries that the flusher has not taken yet
	end       int64     // of the log, entries in memory included
	flushed   int64     // end of what is on this disk
	committed int64     // end of what is acknowledged; never falls
	waiting   []*commit // by end

	// held says that a commit needs the confirmation of the mirror of that name. The name stays when
	// held ends, so that status goes on showing the mirror.
	held      bool
	mirror    string
	mirrorAck int64 // what that mirror has confirmed to have on disk
	// proven says that in this run a commit was seen on this disk and not acknowledged, or acknowledged
	// by the mirror, since the mode is held for this mirror.
	proven bool
}

// commit is a client's write that waits to be acknowledged.
type commit struct {
	change change
	end    int64
	done   chan error // capacity 1
}

// start is the state after a start: everything that was read is on disk, and whatever comes is held for
// a mirror that nobody has named yet.
func (p *pipeline) start(end int64) {
	*p = pipeline{end: end, flushed: end, committed: end, held: true}
}

// add puts a record at the end of the log and returns where it ends.
func (p *pipeline) add(k kind, body []byte) int64 {
	before := len(p.tail)
	p.tail = appendRecord(p.tail, p.end, k, body)
	p.end += int64(len(p.tail) - before)
	return p.end
}

// hold makes commits wait for the mirror of that name, which has confirmed what ack says.
func (p *pipeline) hold(mirror string, ack int64) {
	p.held, p.mirror, p.mirrorAck, p.proven = true, mirror, ack, false
}

// acknowledgeable is the end of what may be acknowledged now.
func (p *pipeline) acknowledgeable() int64 {
	if p.held {
		return min(p.flushed, p.mirrorAck)
	}
	return p.flushed
}

// advance acknowledges what may be acknowledged and makes it visible.
func (p *pipeline) advance(m *image) {
	to := p.acknowledgeable()
	if to <= p.committed {
		return
	}
	p.committed = to
	n := 0
	for ; n < len(p.waiting) && p.waiting[n].end <= to; n++ {
		c := p.waiting[n]
		m.confirm(c.change, c.end)
		c.done <- nil
	}
	p.waiting = p.waiting[n:]
	if len(p.waiting) == 0 {
		p.waiting = nil // So that the array of a long wait does not stay.
	}
}

// abandon tells everybody who waits that the server ends.
func (p *pipeline) abandon() {
	for _, c := range p.waiting {
		c.done <- errStopping
	}
	p.waiting = nil
}

// prove checks a probe that is on this disk: had the server acknowledged it without the mirror, then it
// would not be holding. In mode alone the probe is acknowledged in the same step in which it is found to
// be on disk, so to see it there unacknowledged is the proof that the mode is in force.
func (p *pipeline) prove(mirror string, probe int64) error {
	if !p.held || p.mirror != mirror {
		return fmt.Errorf("the mode changed while holding for %s was being proved", mirror)
	}
	if p.committed >= probe && p.mirrorAck < probe {
		return fmt.Errorf("a probe was acknowledged without mirror %s", mirror)
	}
	p.proven = true
	return nil
}

// write puts a client's change into the log and waits until it is acknowledged. It calls build under mu,
// so that a change that depends on the newest value cannot miss another.
func (s *Server) write(build func(*image) (change, error)) error {
	s.mu.Lock()
	if err := s.refuseWrites(); err != nil {
		s.mu.Unlock()
		return err
	}
	ch, err := build(s.image)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	c := &commit{change: ch, done: make(chan error, 1)}
	c.end = s.commits.add(ch.encode())
	s.commits.waiting = append(s.commits.waiting, c)
	s.image.await(ch, c.end)
	s.mu.Unlock()
	s.wakeFlusher()
	if err := <-c.done; err != nil {
		return &Refusal{Code: CodeUnknown, Text: "the write may or may not survive: " + err.Error()}
	}
	return nil
}

func (s *Server) refuseWrites() error {
	switch {
	case s.role != RolePrimary:
		return &Refusal{Code: CodeReadOnly, Text: "this is a mirror; the primary is elsewhere"}
	case s.closing:
		return &Refusal{Code: CodeReadOnly, Text: "this primary is stopping"}
	default:
		return nil
	}
}

func (s *Server) wakeFlusher() {
	select {
	case s.flushNow <- struct{}{}:
	default:
	}
}

// flush writes what has come together since the last flush with one sync, until the server ends.
func (s *Server) flush() {
	for {
		select {
		case <-s.flushNow:
		case <-s.life.Done():
			return
		}
		s.mu.Lock()
		batch := s.commits.tail
		s.commits.tail = nil
		killed := s.kill
		s.mu.Unlock()
		if killed {
			return
		}
		if len(batch) == 0 {
			continue
		}
		if err := s.journal.append(batch); err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		s.commits.flushed += int64(len(batch))
		s.acknowledge()
		s.mu.Unlock()
	}
}

// acknowledge answers the commits that may be answered now. Nobody hears of anything after a kill, also
// not of what reached the disk just before. Called with mu held.
func (s *Server) acknowledge() {
	if !s.kill {
		s.commits.advance(s.image)
	}
	s.notify()
}
