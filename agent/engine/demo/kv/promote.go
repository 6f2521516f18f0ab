package kv

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Promote makes the server the primary, with commits held for the named mirror from the first one on. It
// opens a new timeline, whose record doubles as the probe that holding is proved with. A server that is
// the primary already only holds.
func (s *Server) Promote(ctx context.Context, mirror string) error {
	s.command.Lock()
	defer s.command.Unlock()
	if s.Status().Role == RolePrimary {
		return s.holdFor(ctx, mirror)
	}
	// What the receiver has confirmed to the old primary is in the log when it has ended; so the new
	// timeline begins behind every commit that the old primary may have acknowledged.
	s.stopReceiver()
	s.mu.Lock()
	if data, reason := s.data(); data != DataPresent {
		s.mu.Unlock()
		return &Refusal{Code: CodeNoData, Text: "cannot promote: " + reason}
	}
	if s.closing {
		s.mu.Unlock()
		return errStopping
	}
	id, err := hex.DecodeString(randomID())
	if err != nil {
		panic("random id is not hexadecimal: " + err.Error())
	}
	next := Timeline{
		Number: s.image.history.last().Number + 1,
		Start:  s.commits.end,
		ID:     binary.BigEndian.Uint64(id),
	}
	s.commits.hold(mirror, 0)
	probe := s.commits.add(kindTimeline, timelineBody(next))
	// The log contains the timeline from now on, also if ctx ends before the server may become primary.
	s.image.history = append(s.image.history, next)
	s.mu.Unlock()
	s.wakeFlusher()
	return s.settleProbe(ctx, mirror, probe, func() {
		s.role = RolePrimary
		s.log.InfoContext(ctx, "promoted", "timeline", next.Number, "offset", next.Start, "held_for", mirror)
	})
}

// Hold makes a primary hold commits for the named mirror and returns when it was seen to. Clients are
// not kept waiting by it, except for the mirror.
func (s *Server) Hold(ctx context.Context, mirror string) error {
	s.command.Lock()
	defer s.command.Unlock()
	return s.holdFor(ctx, mirror)
}

func (s *Server) holdFor(ctx context.Context, mirror string) error {
	s.mu.Lock()
	p := &s.commits
	switch {
	case s.role != RolePrimary:
		s.mu.Unlock()
		return &Refusal{Code: CodeNotPrimary, Text: "a mirror has no commits to hold"}
	case p.held && p.mirror == mirror && p.proven:
		s.mu.Unlock()
		return nil
	}
	var ack int64
	if f := s.mirrors[mirror]; f != nil {
		ack = f.ack
	}
	p.hold(mirror, ack)
	probe := p.add(kindProbe, nil)
	s.mu.Unlock()
	s.wakeFlusher()
	return s.settleProbe(ctx, mirror, probe, func() {
		s.log.InfoContext(ctx, "holding commits", "mirror", mirror, "offset", p.flushed)
	})
}

// settleProbe waits until a probe is on this disk, checks how it was treated, and runs then, under mu.
func (s *Server) settleProbe(ctx context.Context, mirror string, probe int64, then func()) error {
	err := s.await(ctx, func() (bool, error) {
		if s.commits.flushed < probe {
			return false, nil
		}
		if err := s.commits.prove(mirror, probe); err != nil {
			return false, err
		}
		then()
		s.notify()
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("prove that commits are held for %s: %w", mirror, err)
	}
	return nil
}

// Alone lets a primary acknowledge commits by its own disk, those that wait included.
func (s *Server) Alone() error {
	s.command.Lock()
	defer s.command.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.role != RolePrimary {
		return &Refusal{Code: CodeNotPrimary, Text: "a mirror has no commits to release"}
	}
	if s.commits.held {
		s.log.Info("acknowledging commits alone", "waiting", len(s.commits.waiting))
	}
	s.commits.held, s.commits.proven = false, false
	s.acknowledge()
	return nil
}

// Handover is how a primary's hand-over ended.
type Handover struct {
	Final               Position `json:"final"`
	Attached            bool     `json:"attached"`       // the mirror was there at the end
	MirrorFlushed       int64    `json:"mirror_flushed"` // what the mirror confirmed
	MirrorHasEverything bool     `json:"mirror_has_everything"`
}

// HandOver refuses new writes, finishes those under way, waits until ctx ends for the mirror to confirm
// that it has everything, and ends the server, whatever came out.
func (s *Server) HandOver(ctx context.Context, mirror string) (Handover, error) {
	s.command.Lock()
	defer s.command.Unlock()
	s.mu.Lock()
	if s.role != RolePrimary {
		s.mu.Unlock()
		return Handover{}, &Refusal{Code: CodeNotPrimary, Text: "a mirror has nothing to hand over"}
	}
	s.closing = true
	final := s.commits.end
	s.mu.Unlock()
	var result Handover
	err := s.await(ctx, func() (bool, error) {
		result = Handover{Final: s.position(s.commits.flushed)}
		if f := s.mirrors[mirror]; f != nil {
			result.Attached, result.MirrorFlushed = true, f.ack
			result.MirrorHasEverything = f.ack >= final && s.commits.flushed >= final
		}
		return result.MirrorHasEverything, nil
	})
	s.log.InfoContext(ctx, "handed over", "offset", result.Final.Offset, "mirror", mirror,
		"mirror_has_everything", result.MirrorHasEverything, "mirror_offset", result.MirrorFlushed)
	defer s.requestStop(nil, false)
	if err != nil && ctx.Err() == nil {
		return result, err
	}
	return result, nil
}

// position is an offset on the timeline of the log's end. Called with mu held.
func (s *Server) position(offset int64) Position {
	return Position{Timeline: s.image.history.last().Number, Offset: offset}
}
