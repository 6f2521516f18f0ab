package kv

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// acceptPause keeps a server that has run out of descriptors from turning in a tight loop.
const acceptPause = 50 * time.Millisecond

// replyPatience bounds how long a client that does not read keeps its connection.
const replyPatience = 5 * time.Second

// adminConns is how many connections of the administrator fit beside all others.
const adminConns = 64

// accept serves the connections of one listener, each in a goroutine that the server waits for.
func (s *Server) accept(l net.Listener, admin bool) {
	for {
		conn, err := l.Accept()
		if err == nil {
			if s.enter(conn, admin) {
				s.serving.Go(func() {
					defer s.leave(conn)
					s.talk(conn, admin)
				})
			} else {
				_ = conn.Close()
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			s.requestStop(fmt.Errorf("accept: %w", err), false) // The first reason to stop counts.
			return
		}
		s.log.Warn("accept", "error", err)
		select {
		case <-s.stop:
			return
		case <-time.After(acceptPause):
		}
	}
}

// enter notes a connection, so that the end of the server can close it.
func (s *Server) enter(conn net.Conn, admin bool) bool {
	limit := maxConns
	if admin {
		limit += adminConns
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stop:
		return false
	default:
	}
	if len(s.conns) >= limit {
		return false
	}
	s.conns[conn] = struct{}{}
	// Should the process be killed, the kernel resets the connection and throws away what was not sent:
	// a dead server's acknowledgements do not arrive late.
	setLinger(conn, 0)
	return true
}

func (s *Server) leave(conn net.Conn) {
	s.mu.Lock()
	delete(s.conns, conn)
	kill := s.kill
	s.mu.Unlock()
	if !kill {
		setLinger(conn, -1) // The last answer of an orderly end shall arrive.
	}
	_ = conn.Close()
}

func setLinger(conn net.Conn, seconds int) {
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(seconds) // Fails only on a connection that is closed already.
	}
}

// cutConns closes every connection at once. Called with mu held.
func (s *Server) cutConns() {
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// dismissClients lets every client read the answer that it waits for and no further command; the timer
// that it returns cuts off those that do not take their answer.
func (s *Server) dismissClients() *time.Timer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
	return time.AfterFunc(stopPatience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cutConns()
	})
}

// admitClient counts a client in, if there is room.
func (s *Server) admitClient() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients >= maxClients {
		return false
	}
	s.clients++
	return true
}

func (s *Server) dismissClient() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
}

// talk answers the lines of one connection until it ends or turns out to be a mirror's.
func (s *Server) talk(conn net.Conn, admin bool) {
	in := bufio.NewReader(conn)
	counted := admin
	for {
		line, err := readLine(in)
		if err != nil {
			if errors.Is(err, errLongLine) {
				_ = reply(conn, (&Refusal{Code: CodeSyntax, Text: err.Error()}).line())
			}
			return
		}
		verb, args, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		switch {
		case verb == "QUIT":
			return
		case verb == "MIRROR":
			s.feedMirror(conn, in, args)
			return
		case !counted:
			if !s.admitClient() {
				_ = reply(conn, (&Refusal{Code: CodeLimit, Text: "too many clients"}).line())
				return
			}
			defer s.dismissClient()
			counted = true
		}
		if err := reply(conn, s.answer(verb, args, admin)); err != nil {
			return
		}
	}
}

// answer runs a command and returns what to say, without the last line's end.
func (s *Server) answer(verb, args string, admin bool) string {
	text, known, err := s.client(verb, args)
	if !known {
		text, known, err = s.administer(verb, args, admin)
	}
	if !known {
		err = &Refusal{Code: CodeSyntax, Text: "unknown command " + clip(verb)}
	}
	if err == nil {
		return text
	}
	var no *Refusal
	if !errors.As(err, &no) {
		no = &Refusal{Code: CodeFailed, Text: err.Error()}
	}
	return no.line()
}

func reply(conn net.Conn, text string) error {
	if err := conn.SetWriteDeadline(after(replyPatience)); err != nil {
		return err
	}
	_, err := conn.Write([]byte(text + "\n"))
	return err
}

// errLongLine says that a line is longer than any command.
var errLongLine = errors.New("line too long")

// readLine reads one line without its end.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return "", errLongLine
		}
		line = append(line, part...)
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

// clip shortens what a client sent, for an error message.
func clip(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return fmt.Sprintf("%q", s)
}
