package kv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// ErrOutcomeUnknown says that a write may or may not have been done: the connection ended before the
// answer came. Nothing was tried a second time; whether that is right only the caller can know.
var ErrOutcomeUnknown = errors.New("outcome unknown")

const (
	// attemptPatience bounds one attempt to reach one address, so that a dead host does not use up the
	// time in which the other would answer.
	attemptPatience = 500 * time.Millisecond
	// roundPause is the wait between two rounds over all addresses while none is the primary.
	roundPause = 50 * time.Millisecond
)

// Client is a connection to the primary among several addresses. It looks for the primary again when the
// one it had is gone or is none any more. It may be used by several goroutines, one request at a time.
type Client struct {
	// Addresses are tried in this order, round and round.
	Addresses []string
	// Any takes a mirror as well; for reading only.
	Any bool
	// DialContext is the network; the system's if nil.
	DialContext func(ctx context.Context, address string) (net.Conn, error)

	mu   sync.Mutex
	conn net.Conn // nil while not connected
	in   *bufio.Reader
}

// Dial finds the primary among the addresses. It goes on until it succeeds or ctx ends.
func Dial(ctx context.Context, addresses ...string) (*Client, error) {
	c := &Client{Addresses: addresses}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Set writes a value. After nil it is on disk wherever the primary promised.
func (c *Client) Set(ctx context.Context, key, value string) error {
	_, err := c.write(ctx, "SET "+key+" "+value, "OK")
	return err
}

// Delete removes a key.
func (c *Client) Delete(ctx context.Context, key string) error {
	_, err := c.write(ctx, "DEL "+key, "OK")
	return err
}

// Increment adds one to a value and returns the sum.
func (c *Client) Increment(ctx context.Context, key string) (int64, error) {
	rest, err := c.write(ctx, "INCR "+key, "VALUE")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rest, 10, 64)
}

// Get reads a value; false if there is none.
func (c *Client) Get(ctx context.Context, key string) (string, bool, error) {
	rest, err := c.read(ctx, "GET "+key, "VALUE")
	if errors.Is(err, errNone) {
		return "", false, nil
	}
	return rest, err == nil, err
}

// Count counts the keys with a prefix.
func (c *Client) Count(ctx context.Context, prefix string) (int, error) {
	rest, err := c.read(ctx, "COUNT "+prefix, "VALUE")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(rest)
}

// Role asks what the server at the other end is.
func (c *Client) Role(ctx context.Context) (Role, error) {
	rest, err := c.read(ctx, "ROLE", "ROLE")
	return Role(rest), err
}

// Address is where the client is connected, "" if nowhere.
func (c *Client) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return ""
	}
	return c.conn.RemoteAddr().String()
}

// Close ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	return nil
}

// errNone is the answer to a GET of a key that is not there.
var errNone = errors.New("no such key")

// write sends a change. It is sent again only if a server refused it, since then it was not done.
func (c *Client) write(ctx context.Context, line, want string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.connect(ctx); err != nil {
			return "", err
		}
		rest, err := exchange(ctx, c.conn, c.in, line, want)
		var no *Refusal
		switch {
		case err == nil:
			return rest, nil
		case !errors.As(err, &no):
			c.drop()
			return "", fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		case no.Code == CodeUnknown:
			c.drop()
			return "", fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		case no.Code != CodeReadOnly || c.Any:
			return "", err
		}
		c.drop()
		if err := pause(ctx, roundPause); err != nil {
			return "", fmt.Errorf("find the primary: %w", err)
		}
	}
}

// read asks for something, again and elsewhere if the connection ends.
func (c *Client) read(ctx context.Context, line, want string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.connect(ctx); err != nil {
			return "", err
		}
		rest, err := exchangeOrNone(ctx, c.conn, c.in, line, want)
		var no *Refusal
		if err == nil || errors.Is(err, errNone) || errors.As(err, &no) {
			return rest, err
		}
		c.drop()
		if err := pause(ctx, 0); err != nil {
			return "", err
		}
	}
}

func exchangeOrNone(ctx context.Context, conn net.Conn, in *bufio.Reader,
	line, want string,
) (string, error) {
	rest, err := exchange(ctx, conn, in, line, want)
	var odd *unexpected
	if errors.As(err, &odd) && odd.answer == "NONE" {
		return "", errNone
	}
	return rest, err
}

// connect finds the primary, if there is no connection.
func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	if len(c.Addresses) == 0 {
		return errors.New("find the primary: no addresses")
	}
	for {
		var attempts []error
		for _, address := range c.Addresses {
			err := c.attempt(ctx, address)
			if err == nil {
				return nil
			}
			attempts = append(attempts, fmt.Errorf("%s: %w", address, err))
		}
		if err := pause(ctx, roundPause); err != nil {
			return fmt.Errorf("find the primary: %w: %w", err, errors.Join(attempts...))
		}
	}
}

// attempt connects to one address and keeps the connection if the server there will do.
func (c *Client) attempt(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	dial := c.DialContext
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	role, err := exchange(ctx, conn, in, "ROLE", "ROLE")
	if err == nil && !c.Any && Role(role) != RolePrimary {
		err = errors.New("is a mirror")
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	c.conn, c.in = conn, in
	return nil
}

func (c *Client) drop() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn, c.in = nil, nil
	}
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
