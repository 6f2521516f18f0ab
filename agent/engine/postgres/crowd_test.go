//go:build linux

package postgres

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

// crowd takes connections as user until the server gives no more, and goes on asking until the test ends.
func (h *host) crowd(user string) {
	h.t.Helper()
	address, port, err := net.SplitHostPort(h.cfg.Listen)
	check(h.t, err)
	url := dsn(map[string]string{
		"host": address, "port": port, "user": user, "dbname": "postgres", "sslmode": "disable", "connect_timeout": "1",
	})
	ctx, cancel := context.WithCancel(context.Background())
	full, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var taken []*pgconn.PgConn
		for told := false; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			conn, err := pgconn.Connect(ctx, url)
			if err == nil {
				taken = append(taken, conn)
			} else if !told && hasCode(err, codeTooMany) {
				told = true
				close(full)
			}
		}
		for _, conn := range taken {
			_ = conn.Conn().Close()
		}
	}()
	h.t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-full:
	case <-time.After(ample):
		h.t.Fatal("the server has room for everybody")
	}
}

// TestCrowd: clients have taken every connection. The engine's own were there before; and an agent that is started
// in the middle of it, or whose server is, gets in beside them.
func TestCrowd(t *testing.T) {
	for _, user := range []string{"ordinary", "postgres"} {
		t.Run(user, func(t *testing.T) {
			a, b := newPair(t)
			a.client().must("create role ordinary login")
			a.see()
			a.crowd(user)
			well := func() {
				t.Helper()
				if got := a.see(); got.Role != engine.RolePrimary || got.Commits != engine.CommitsHeld {
					t.Fatalf("%+v", got)
				}
			}
			well()
			a.until("says so", func(s engine.State) bool { return strings.Contains(s.Warning, "are refused") })

			a.crash()
			a.serve(b)
			well()
			b.follows(a)
			a.until("mirror is back", func(s engine.State) bool { return s.Mirror.Attached && s.Stalled == 0 })

			check(t, a.Engine.Close())
			a.open()
			a.serve(b) // Restarted or not, holding is proved anew.
			well()
			check(t, a.ReleaseCommits(within(t, ample)))
			check(t, a.HoldCommits(within(t, ample), b.peer()))
			well()
		})
	}
}
