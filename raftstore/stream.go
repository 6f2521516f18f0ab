package raftstore

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A StreamLayer carries the connections between the nodes.
//
// Addr is the address that the other nodes dial: it goes into votes and into what Leader returns.
//
// Mutual TLS is a StreamLayer over this one, nothing else here changes: Accept returns tls.Server of the
// connection, unshaken, for the handshake then runs on the connection's own goroutine and a silent client
// holds up nobody (give it a deadline of its own); Dial completes the handshake within its time-out, and
// checks in VerifyConnection that the certificate belongs to the node at that address.
type StreamLayer interface {
	net.Listener
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

// ListenTCP listens on one address and tells the others to dial another: where the node listens on all
// interfaces, or behind a translation. An empty advertised address is that of the listener.
func ListenTCP(listen, advertised string) (StreamLayer, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the other nodes: %w", err)
	}
	if advertised == "" {
		advertised = l.Addr().String()
	}
	if err := dialable(advertised); err != nil {
		return nil, errors.Join(fmt.Errorf("advertised address %s: %w", advertised, err), l.Close())
	}
	return &tcpLayer{Listener: l, advertised: advertised}, nil
}

func dialable(address string) error {
	host, port, err := net.SplitHostPort(address)
	switch ip := net.ParseIP(host); {
	case err != nil:
		return err
	case host == "", ip != nil && ip.IsUnspecified():
		return errors.New("other nodes cannot dial it: name a host")
	case port == "0", port == "":
		return errors.New("other nodes cannot dial it: name a port")
	}
	return nil
}

type tcpLayer struct {
	net.Listener
	advertised string
}

func (l *tcpLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

// Addr keeps a host name a name: nodes may move to other addresses under it.
func (l *tcpLayer) Addr() net.Addr { return namedAddr(l.advertised) }

type namedAddr string

func (namedAddr) Network() string  { return "tcp" }
func (a namedAddr) String() string { return string(a) }

// streams gives a StreamLayer to raft and closes with it every connection that it ever made. Raft's
// transport forgets those it accepted: their goroutines would live for as long as the other side does.
type streams struct {
	StreamLayer

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func newStreams(layer StreamLayer) *streams {
	return &streams{StreamLayer: layer, open: make(map[net.Conn]struct{})}
}

func (s *streams) Accept() (net.Conn, error) {
	c, err := s.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return s.keep(c)
}

func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.StreamLayer.Dial(string(address), timeout)
	if err != nil {
		return nil, err
	}
	return s.keep(c)
}

func (s *streams) keep(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	s.open[c] = struct{}{}
	return &stream{Conn: c, of: s}, nil
}

func (s *streams) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.StreamLayer.Close()
	for c := range s.open {
		err = errors.Join(err, c.Close())
	}
	clear(s.open)
	return err
}

type stream struct {
	net.Conn
	of *streams
}

func (c *stream) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
