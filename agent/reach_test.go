package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried []string
		var down atomic.Bool
		r := &reach{dial: func(_ context.Context, address string) error {
			tried = append(tried, address)
			if down.Load() {
				return errors.New("no route to host")
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		rounds := func(n int) {
			time.Sleep(time.Duration(n)*reachEvery + time.Millisecond)
			synctest.Wait()
		}
		rounds(2)
		if len(tried) > 0 {
			t.Errorf("tried %q with nobody serving", tried)
		}
		r.look("db1:5432")
		rounds(2)
		if len(tried) != 2 || r.warning() != "" {
			t.Errorf("tried %q, said %q", tried, r.warning())
		}
		down.Store(true)
		rounds(reachTries - 1)
		if r.warning() != "" {
			t.Errorf("said after %d failures: %q", reachTries-1, r.warning())
		}
		rounds(1)
		if w := r.warning(); !strings.Contains(w, "db1:5432") || !strings.Contains(w, "no route") {
			t.Errorf("said %q", w)
		}
		r.look("db2:5432") // another primary is another question
		if r.warning() != "" {
			t.Errorf("said of another: %q", r.warning())
		}
		rounds(reachTries)
		down.Store(false)
		rounds(1)
		if r.warning() != "" {
			t.Errorf("said when it is back: %q", r.warning())
		}
		cancel()
		<-done
	})
}

func TestKnock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := knock(t.Context(), l.Addr().String()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if knock(t.Context(), l.Addr().String()) == nil {
		t.Error("a closed port can be reached")
	}
}
