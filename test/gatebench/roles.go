package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/gate"
	"github.com/witnessd/witnessd/agent/hold"
)

// The life of a right as agents have it by default.
const (
	heartbeat = 500 * time.Millisecond
	lease     = 2700 * time.Millisecond
)

func bootClock() hold.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("this kernel has no CLOCK_BOOTTIME: " + err.Error())
	}
	return hold.Instant(ts.Nano())
}

// serveGates is the process of gates, each given as LISTEN=DATABASE, whose rights are renewed as an agent does.
func serveGates(ctx context.Context, pairs []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runtime.GOMAXPROCS(2 * runtime.NumCPU()) // see gate.Options.Threads
	var all sync.WaitGroup
	failed := make(chan error, len(pairs))
	for _, pair := range pairs {
		listen, database, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is not LISTEN=DATABASE", pair)
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		g := gate.New(gate.Options{
			Instance: listen, Wait: 5 * time.Second, Database: database, Clock: bootClock,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		renew := func() { g.Route(gate.Route{Local: true, Until: bootClock().Add(lease)}) }
		renew()
		all.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(heartbeat)
				renew()
			}
		})
		all.Go(func() { failed <- g.Serve(ctx, l) })
	}
	err := <-failed
	cancel()
	all.Wait()
	return err
}

// What a client of a source asks for with its first byte.
const (
	askStream = 's' // bytes until the client closes
	askNone   = 'n' // nothing: the connection is idle
)

// serveStreams is the process of a server of bytes.
func serveStreams(ctx context.Context, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	bytes := make([]byte, 256<<10)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			var ask [1]byte
			if _, err := io.ReadFull(c, ask[:]); err != nil {
				return
			}
			for ask[0] == askStream {
				if _, err := c.Write(bytes); err != nil {
					return
				}
			}
			_, _ = c.Read(ask[:])
		}()
	}
}
