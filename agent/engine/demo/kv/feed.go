package kv

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"time"
)

// feed is a mirror's connection, seen from the primary.
type feed struct {
	name string
	conn net.Conn
	sent int64 // only the sending goroutine uses it
	ack  int64 // what the mirror has on disk; guarded by the server's mu
	// gone is closed when confirmations no longer come in.
	gone chan struct{}
}

// feedMirror serves a connection on which a mirror introduced itself, until it ends.
func (s *Server) feedMirror(conn net.Conn, in *bufio.Reader, text string) {
	f, end, err := s.welcomeMirror(conn, text)
	if err != nil {
		s.log.Debug("mirror not served", "remote", conn.RemoteAddr().String(), "error", err)
		return
	}
	if f == nil {
		return // It must become able to follow first, and comes again.
	}
	s.log.Info("mirror attached", "mirror", f.name, "remote", conn.RemoteAddr().String(),
		"offset", f.sent, "behind", end-f.sent)
	s.serving.Go(func() { s.hearMirror(f, in) })
	err = s.sendLog(f)
	_ = conn.Close()
	<-f.gone
	s.log.Info("mirror detached", "mirror", f.name, "error", err)
}

// welcomeMirror answers a hello. It returns the feed, registered, if frames are to follow.
func (s *Server) welcomeMirror(conn net.Conn, text string) (*feed, int64, error) {
	h, err := parseHello(text)
	if err != nil {
		return nil, 0, errors.Join(err, replyRefusal(conn, err))
	}
	s.mu.Lock()
	w, err := s.judgeMirror(h)
	s.mu.Unlock()
	if err != nil {
		return nil, 0, errors.Join(err, replyRefusal(conn, err))
	}
	if err := reply(conn, w.line()); err != nil || w.verdict != verdictStream {
		return nil, 0, err
	}
	f := &feed{name: h.name, conn: conn, sent: h.end, ack: h.end, gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, 0, errStopping
	}
	if old := s.mirrors[f.name]; old != nil {
		_ = old.conn.Close() // A mirror that comes again has lost its old connection.
	}
	s.mirrors[f.name] = f
	s.confirm(f, h.end)
	return f, w.end, nil
}

func replyRefusal(conn net.Conn, err error) error {
	var no *Refusal
	if !errors.As(err, &no) {
		no = &Refusal{Code: CodeFailed, Text: err.Error()}
	}
	return reply(conn, no.line())
}

// judgeMirror answers a hello as far as this server can. Called with mu held.
func (s *Server) judgeMirror(h hello) (welcome, error) {
	if s.role != RolePrimary {
		return welcome{}, &Refusal{Code: CodeNotPrimary, Text: "this is a mirror itself"}
	}
	if s.mirrors[h.name] == nil && len(s.mirrors) >= maxMirrors {
		return welcome{}, &Refusal{Code: CodeLimit, Text: "too many mirrors"}
	}
	return judge(h, s.image.system, s.image.history, s.commits.flushed)
}

// confirm takes a mirror's word for what it has on disk. Only the mirror that commits are held for, and
// only its newest connection, makes commits acknowledged. Called with mu held.
func (s *Server) confirm(f *feed, offset int64) {
	if s.mirrors[f.name] != f {
		return
	}
	f.ack = offset
	if s.role == RolePrimary && f.name == s.commits.mirror {
		s.commits.mirrorAck = max(s.commits.mirrorAck, offset)
	}
	s.acknowledge()
}

// hearMirror takes confirmations until the mirror is silent for too long.
func (s *Server) hearMirror(f *feed, in *bufio.Reader) {
	defer close(f.gone)
	defer s.forget(f)
	for {
		if err := f.conn.SetReadDeadline(after(s.opts.Silence)); err != nil {
			return
		}
		msg, err := readFrame(in)
		if err != nil || msg.kind != frameAck {
			return
		}
		s.mu.Lock()
		if msg.offset > s.commits.flushed {
			s.mu.Unlock()
			s.log.Error("a mirror confirms what it was never sent", "mirror", f.name,
				"offset", msg.offset)
			return
		}
		s.confirm(f, msg.offset)
		s.mu.Unlock()
	}
}

// forget takes a mirror that is gone off the list, unless it has come again.
func (s *Server) forget(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mirrors[f.name] == f {
		delete(s.mirrors, f.name)
	}
	s.notify()
}

// sendLog sends what is on this disk, and pings, until the mirror is gone or the server ends.
func (s *Server) sendLog(f *feed) error {
	ping := time.NewTicker(s.opts.Ping)
	defer ping.Stop()
	for {
		s.mu.Lock()
		flushed, changed := s.commits.flushed, s.changed
		s.mu.Unlock()
		if f.sent < flushed {
			if err := s.sendChunk(f, flushed); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ping.C:
			msg := frame{kind: framePing, offset: flushed}
			if err := sendFrame(f.conn, msg, s.opts.Silence); err != nil {
				return err
			}
		case <-f.gone:
			return errors.New("no word from the mirror")
		case <-s.life.Done():
			return errStopping
		}
	}
}

func (s *Server) sendChunk(f *feed, flushed int64) error {
	payload, err := s.journal.readAt(f.sent, flushed, chunk)
	if err != nil {
		return fmt.Errorf("feed mirror: %w", err)
	}
	msg := frame{kind: frameData, offset: f.sent, payload: payload}
	if err := sendFrame(f.conn, msg, s.opts.Silence); err != nil {
		return err
	}
	f.sent += int64(len(payload))
	return nil
}

// dropMirrors ends all feeds. Called with mu held.
func (s *Server) dropMirrors() {
	for _, f := range s.mirrors {
		_ = f.conn.Close()
	}
}
