package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// tryLife is how long the spare port is open in a trial.
const tryLife = 300 * time.Millisecond

// TryKernel tries whether the kernel's fence works on this host, on a spare port of 127.0.0.1 and with a table
// of its own that is named after table. It takes about half a second. Its errors say what to do:
// [ErrNotPermitted], [ErrNoTables], [ErrNoExpression], [ErrDoesNotCut].
func TryKernel(ctx context.Context, table string) error {
	return tryKernel(ctx, newNetRules(fmt.Sprintf("%s_%d", table, os.Getpid()), 0))
}

func tryKernel(ctx context.Context, r *netRules) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("try the fence of the kernel: listen on a spare port: %w", err)
	}
	defer listener.Close()
	go answer(listener)
	local := netip.MustParseAddrPort(listener.Addr().String())
	s := Service{Name: "trial", Addresses: []netip.Addr{local.Addr()}, Port: local.Port()}
	err = r.try(ctx, s, local.String())
	if errors.Is(err, ErrNoTables) || errors.Is(err, ErrNotPermitted) {
		return fmt.Errorf("try the fence of the kernel: %w", errors.Join(err, r.drop()))
	}
	return errors.Join(err, r.remove())
}

// answer sends back what it gets, until the listener is closed.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// try sees a connection pass while the port is open, and cut when its time is over.
func (r *netRules) try(ctx context.Context, s Service, address string) error {
	err := r.arrange(func() plan { return plan{states: []state{{service: s}}} })
	if err != nil {
		return fmt.Errorf("put rules in force: %w", err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if c, err := dialer.DialContext(ctx, "tcp4", address); err == nil {
		return fmt.Errorf("a closed port lets a client in: %w", errors.Join(ErrDoesNotCut, c.Close()))
	}
	if err := r.renew(func() []state { return []state{{service: s, left: tryLife}} }); err != nil {
		return fmt.Errorf("open the port: %w", err)
	}
	c, err := dialer.DialContext(ctx, "tcp4", address)
	if err != nil {
		return fmt.Errorf("connect to the open port (does another firewall close it?): %w", err)
	}
	defer c.Close()
	// Reads must not hang where a packet was lost.
	late := time.AfterFunc(tryLife+time.Second, func() { _ = c.Close() })
	defer late.Stop()
	const every = 20 * time.Millisecond
	for spent := time.Duration(0); spent < 2*tryLife; spent += every {
		if err := ping(c); err != nil && spent == 0 {
			return fmt.Errorf("send through the open port: %w", err)
		} else if err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
	return fmt.Errorf("a connection was still open %v after it should have been cut: %w", tryLife, ErrDoesNotCut)
}

func ping(c net.Conn) error {
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
