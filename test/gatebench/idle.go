package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// idleResult is the memory of a gate's process.
type idleResult struct {
	connections  int
	before, with int64 // bytes resident
	haproxyWith  int64
}

// idleMemory opens connections through the gate, and through HAProxy for comparison, and looks at their memory.
func (s *stage) idleMemory(ctx context.Context, connections int) (idleResult, error) {
	r := idleResult{connections: connections}
	for _, t := range s.targets {
		if t.name != ours && t.name != haproxy {
			continue
		}
		before, err := resident(t.pid)
		if err != nil {
			return r, err
		}
		with, err := residentWith(ctx, t, connections)
		if err != nil {
			return r, fmt.Errorf("%s: %w", t.name, err)
		}
		if t.name == ours {
			r.before, r.with = before, with
		} else {
			r.haproxyWith = with
		}
	}
	return r, nil
}

func residentWith(ctx context.Context, t target, connections int) (int64, error) {
	var d net.Dialer
	var mu sync.Mutex
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	failed := make(chan error, connections)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range connections / 50 {
				c, err := d.DialContext(ctx, "tcp", t.source)
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
				if _, err := c.Write([]byte{askNone}); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(3 * time.Second): // until all of them are only idle
	}
	return resident(t.pid)
}
