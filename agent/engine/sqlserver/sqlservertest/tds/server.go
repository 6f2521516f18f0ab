package tds

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Session is one client's session; its requests come one after the other.
type Session interface {
	// Run does what is asked. When ctx ends, the client has told it to stop (attention), or is gone.
	Run(ctx context.Context, q Request) Response
	// Close is called once, when the connection has ended.
	Close()
}

// Server takes clients. Its fields are set before Serve.
type Server struct {
	// Name is told with every error.
	Name string
	// Login makes the session of a client, or says why not. ctx is the connection's, and so is kill: it ends the
	// connection at once, without a word, from any goroutine.
	Login func(ctx context.Context, l Login, kill func()) (Session, Greeting, []Error)
	// Gate, if any, is asked before anything is answered, and may wait, for ever if it likes.
	Gate func(ctx context.Context)
	// TLS, if any, lets clients demand encryption: with TDS 7 in its own way, with TDS 8 by beginning with TLS.
	TLS *tls.Config

	mu      sync.Mutex
	closed  bool
	open    map[*connection]bool
	spid    uint16
	clients sync.WaitGroup
}

// Serve takes clients until the listener is closed. It can be called again with another.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	for {
		raw, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept clients: %w", err)
		}
		c := s.admit(ctx, raw)
		if c == nil {
			return nil
		}
		s.clients.Go(func() {
			c.serve()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

func (s *Server) admit(ctx context.Context, raw net.Conn) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		//nolint:errcheck // nothing was said on it
		raw.Close()
		return nil
	}
	const systemSessions = 50
	s.spid++
	c := &connection{server: s, raw: raw, spid: systemSessions + s.spid, size: standardPacket}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.open == nil {
		s.open = map[*connection]bool{}
	}
	s.open[c] = true
	return c
}

// Drop ends every connection that is open now.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.kill()
	}
}

// Close ends every connection, takes no other, and returns when the last is over. The listener is its caller's.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.kill()
	}
	s.mu.Unlock()
	s.clients.Wait()
}

// Sessions is how many connections are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// connection is a client's connection. One goroutine reads it; another runs what was read and answers, so that
// attention and the end of the connection are seen while a statement waits.
type connection struct {
	server *Server
	raw    net.Conn // what Accept gave
	stream net.Conn // raw, or TLS on it
	in     *bufio.Reader
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	spid   uint16
	size   int
	begun  uint64 // transactions
}

func (c *connection) kill() {
	c.cancel()
	//nolint:errcheck // the client may have closed it first
	c.raw.Close()
}

func (c *connection) serve() {
	defer c.kill()
	if !c.beginsWithTLS() {
		return
	}
	session := c.login()
	if session == nil {
		return
	}
	defer session.Close()
	messages, attention := make(chan message), make(chan struct{}, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer c.kill()
	reading.Go(func() { c.read(messages, attention) })
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-attention:
			if !c.attended() {
				return
			}
		case m := <-messages:
			if !c.answer(session, m, attention) {
				return
			}
		}
	}
}

func (c *connection) gate() {
	if c.server.Gate != nil {
		c.server.Gate(c.ctx)
	}
}

func (c *connection) write(body []byte) bool {
	_, err := c.stream.Write(packets(packetReply, body, c.size, c.spid))
	return err == nil
}

// login is the session, nil if there is none.
func (c *connection) login() Session {
	// The client may go away while it waits at the gate, and nobody reads: the connection is cut by kill then.
	m, err := readMessage(c.in)
	if err != nil || m.kind != packetPrelogin {
		return nil
	}
	c.gate()
	// Within TDS 8 everything is encrypted already.
	encrypted := c.server.TLS != nil && c.stream == c.raw && wantsEncryption(m.body)
	if !c.write(prelogin(encrypted)) {
		return nil
	}
	if encrypted && c.encrypt() != nil {
		return nil
	}
	m, err = readMessage(c.in)
	if err != nil || m.kind != packetLogin {
		return nil
	}
	c.gate()
	l, err := parseLogin(m.body)
	if err != nil {
		const notRecognized = 17832
		c.write(refuse(c.server.Name, []Error{{Number: notRecognized, Class: 20, State: 1, Message: err.Error()}}))
		return nil
	}
	session, greeting, refused := c.server.Login(c.ctx, l, c.kill)
	if refused != nil {
		c.write(refuse(c.server.Name, refused))
		return nil
	}
	if !c.write(l.accept(greeting)) {
		session.Close()
		return nil
	}
	c.size = l.packet
	return session
}

// read hands over what the client sends, until it goes.
func (c *connection) read(messages chan<- message, attention chan<- struct{}) {
	defer c.cancel()
	for {
		m, err := readMessage(c.in)
		if err != nil {
			return
		}
		if m.kind == packetAttention {
			select {
			case attention <- struct{}{}:
			default: // one is not answered yet, and one answer is enough
			}
			continue
		}
		select {
		case messages <- m:
		case <-c.ctx.Done():
			return
		}
	}
}

// attended tells the client that its attention was seen; it waits for that even if nothing ran any more.
func (c *connection) attended() bool {
	c.gate()
	var w writer
	w.done(tokenDone, doneAttention, 0, 0)
	return c.write(w.b)
}

// answer runs one request; false if the connection is over.
func (c *connection) answer(session Session, m message, attention <-chan struct{}) bool {
	c.gate()
	q, err := parseRequest(m)
	if err != nil {
		const protocol = 4002
		c.write(refuse(c.server.Name, []Error{{Number: protocol, Class: 16, State: 1, Message: err.Error()}}))
		return false
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	result := make(chan Response, 1)
	go func() { result <- session.Run(ctx, q) }()
	select {
	case <-attention:
		cancel()
		<-result
		return c.attended()
	case <-c.ctx.Done():
		cancel()
		<-result
		return false
	case r := <-result:
		if r.Drop || c.ctx.Err() != nil {
			return false
		}
		c.gate()
		return c.write(c.encode(q, r))
	}
}

// encode turns an answer into tokens; a value that does not fit its column becomes an error that the client sees.
func (c *connection) encode(q Request, r Response) (body []byte) {
	defer func() {
		if why := recover(); why != nil {
			body = refuse(c.server.Name, []Error{{Number: 50000, Class: 16, State: 1, Message: fmt.Sprint("the fake: ", why)}})
		}
	}()
	var w writer
	if len(r.Errors) == 0 {
		switch q.Verb {
		case Begin:
			c.begun++
			w.transaction(envBegin, uint64(c.spid)<<32|c.begun)
		case Commit:
			w.transaction(envCommit, uint64(c.spid)<<32|c.begun)
		case Rollback:
			w.transaction(envRollback, uint64(c.spid)<<32|c.begun)
		case Run:
		}
	}
	w.response(c.server.Name, r, q.Call)
	return w.b
}
