package rescue

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

const (
	// patience is the shortest that the configuration allows; ping and second make PARTNER TIMEOUT a fraction of it.
	patience = time.Second
	ping     = 50 * time.Millisecond
	second   = 100 * time.Millisecond
)

// lab is a mirrored unit with SQL Server's own witness, a spare, and a caretaker on each partner.
type lab struct {
	t                    *testing.T
	databases            []string
	a, b, witness, spare *sqlservertest.Instance
	caretakers           map[*sqlservertest.Instance]*caretaker
	spares               []string
	returnAfter          time.Duration
	dirs                 map[*sqlservertest.Instance]string
}

// caretaker is a running engine.
type caretaker struct {
	engine *Engine
	stop   context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	acts []engine.Act
}

func (c *caretaker) did() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, a := range c.acts {
		text := a.What
		if a.Err != nil {
			text += " FAILED: " + a.Err.Error()
		}
		list = append(list, text)
	}
	return list
}

// newLab sets databases up with a witness. Without spare there is none.
func newLab(t *testing.T, databases int, spare bool) *lab {
	t.Helper()
	l := &lab{
		t: t, caretakers: map[*sqlservertest.Instance]*caretaker{}, returnAfter: time.Minute,
		dirs: map[*sqlservertest.Instance]string{},
	}
	for n := range databases {
		l.databases = append(l.databases, fmt.Sprintf("db%02d", n))
	}
	start := func(name string) *sqlservertest.Instance {
		return sqlservertest.Start(t, sqlservertest.Options{Name: name, Ping: ping, Second: second})
	}
	l.a, l.b, l.witness = start("A"), start("B"), start("W")
	if spare {
		l.spare = start("S")
		l.spares = []string{l.spare.Endpoint()}
	}
	sqlservertest.Mirror(t, l.databases, l.a, l.b, l.witness, 10)
	return l
}

// care starts the caretakers of both partners.
func (l *lab) care() {
	l.careOn(l.a)
	l.careOn(l.b)
}

func (l *lab) careOn(i *sqlservertest.Instance) *caretaker {
	l.t.Helper()
	if l.dirs[i] == "" {
		l.dirs[i] = l.t.TempDir()
	}
	user, password, _ := strings.Cut(sqlservertest.DefaultLogin, ":")
	l.t.Setenv("RESCUE_PASSWORD", password)
	cfg := sqlserver.Default()
	cfg.Listen, cfg.User, cfg.PasswordEnv, cfg.Encrypt = i.Address(), user, "RESCUE_PASSWORD", "disable"
	cfg.Databases, cfg.StateFile = l.databases, filepath.Join(l.dirs[i], "state")
	cfg.Rescue = sqlserver.RescueConfig{Spares: l.spares, Patience: patience, ReturnAfter: l.returnAfter}
	eng, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	c := &caretaker{engine: eng, ended: make(chan struct{})}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(l.t.Context())
	go func() {
		defer close(c.ended)
		eng.Care(ctx, func(a engine.Act) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.acts = append(c.acts, a)
		})
	}()
	l.caretakers[i] = c
	l.t.Cleanup(func() { l.leave(i) })
	return c
}

// leave ends the caretaker of an instance, as a restart of its agent does.
func (l *lab) leave(i *sqlservertest.Instance) {
	c := l.caretakers[i]
	if c == nil {
		return
	}
	delete(l.caretakers, i)
	c.stop()
	<-c.ended
	if err := c.engine.Close(); err != nil {
		l.t.Error(err)
	}
}

// witnesses waits until every session of an instance has this witness, connected; "" is none.
func (l *lab) witnesses(i *sqlservertest.Instance, want string) {
	l.t.Helper()
	sqlservertest.Eventually(l.t, fmt.Sprintf("the witness of all databases is %q", want), func() (bool, string) {
		for _, r := range i.Model().Mirroring() {
			if r.GUID == "" || !slices.Contains(l.databases, r.Database) {
				continue
			}
			if !sqlserver.SamePartnerAddress(r.Witness, want) || want != "" && r.WitnessStateDesc != "CONNECTED" {
				return false, fmt.Sprintf("%s has %q (%s)", r.Database, r.Witness, r.WitnessStateDesc)
			}
		}
		return true, ""
	})
}

// serves waits until clients can write, or cannot, on an instance.
func (l *lab) serves(i *sqlservertest.Instance, want bool) {
	l.t.Helper()
	sqlservertest.Eventually(l.t, fmt.Sprintf("it serves: %t", want), func() (bool, string) {
		for _, d := range l.databases {
			if err := i.Model().Access(d, true); (err == nil) != want {
				return false, fmt.Sprintf("%s: %v", d, err)
			}
		}
		return true, ""
	})
}

// TestWitnessDies is what the product is bought for: a shared witness dies, later a mirror, and the principal serves on.
// Without a caretaker it stops (row 10 of SQL Server's failure table).
func TestWitnessDies(t *testing.T) {
	for _, rescued := range []bool{false, true} {
		t.Run(fmt.Sprintf("rescued %t", rescued), func(t *testing.T) {
			l := newLab(t, 10, false)
			if rescued {
				l.care()
			}
			l.witness.Crash()
			if rescued {
				l.witnesses(l.a, "")
				sqlservertest.Eventually(t, "each step is told", func() (bool, string) {
					did := l.caretakers[l.a].did()
					return len(did) == len(l.databases), strings.Join(did, "; ")
				})
				if did := l.caretakers[l.b].did(); len(did) != 0 {
					t.Errorf("the mirror's caretaker acted: %q", did)
				}
			}
			l.b.Crash()
			l.serves(l.a, rescued)
		})
	}
}

// TestSpare: the spare takes the dead witness's place, the first one comes back when it has answered for a while.
func TestSpare(t *testing.T) {
	l := newLab(t, 3, true)
	l.returnAfter = 2 * time.Second
	l.care()
	home := l.witness.Endpoint()
	l.witness.Crash()
	l.witnesses(l.a, l.spare.Endpoint())
	l.witness.Restart(t)
	l.witnesses(l.a, home)
	did := strings.Join(l.caretakers[l.a].did(), "\n")
	for _, want := range []string{"WITNESS OFF", l.spare.Endpoint(), home} {
		if !strings.Contains(did, want) {
			t.Errorf("not told of %s:\n%s", want, did)
		}
	}
	if strings.Contains(did, "FAILED") {
		t.Errorf("told of a failure:\n%s", did)
	}
}

// TestPrincipalMoves: SQL Server fails over by itself; then it is the other caretaker's turn.
func TestPrincipalMoves(t *testing.T) {
	l := newLab(t, 2, true)
	l.care()
	l.a.Crash()
	l.serves(l.b, true)
	l.a.Restart(t)
	sqlservertest.Synchronized(t, l.b, l.databases...)
	l.witness.Crash()
	l.witnesses(l.b, l.spare.Endpoint())
	if did := l.caretakers[l.b].did(); len(did) == 0 {
		t.Error("the new principal's caretaker told nothing")
	}
}

// TestRestartedHalfWay: an agent that ends after the witness was taken out gives the sessions the spare at its next
// start, and knows that no person has done it.
func TestRestartedHalfWay(t *testing.T) {
	l := newLab(t, 2, false)
	l.careOn(l.a)
	l.witness.Crash()
	l.witnesses(l.a, "")
	l.leave(l.a)
	l.spare = sqlservertest.Start(t, sqlservertest.Options{Name: "S", Ping: ping, Second: second})
	l.spares = []string{l.spare.Endpoint()}
	l.careOn(l.a)
	l.witnesses(l.a, l.spare.Endpoint())
}

// TestWaitsForTheMirror: a witness is changed only while everything is SYNCHRONIZED.
func TestWaitsForTheMirror(t *testing.T) {
	l := newLab(t, 2, true)
	l.a.Exec(t, fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER SUSPEND", l.databases[1]))
	c := l.careOn(l.a)
	l.witness.Crash()
	sqlservertest.Eventually(t, "it says what it waits for", func() (bool, string) {
		st, err := c.engine.Observe(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return strings.Contains(st.Warning, "rescue waits"), st.Warning
	})
	if did := c.did(); len(did) != 1 || did[0] != "wait" {
		t.Errorf("acted: %q", did)
	}
	for _, r := range l.a.Model().Mirroring() {
		if r.GUID != "" && !sqlserver.SamePartnerAddress(r.Witness, l.witness.Endpoint()) {
			t.Errorf("%s has %q", r.Database, r.Witness)
		}
	}
}

// TestByHand: a witness that a person takes out stays out.
func TestByHand(t *testing.T) {
	l := newLab(t, 1, true)
	c := l.careOn(l.a)
	sqlservertest.Eventually(t, "the caretaker has looked", func() (bool, string) {
		st, err := c.engine.Observe(t.Context())
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		return err == nil && len(c.engine.memory.sessions) == 1, st.Warning
	})
	l.a.Exec(t, "ALTER DATABASE [db00] SET WITNESS OFF")
	sqlservertest.Eventually(t, "it is said", func() (bool, string) {
		st, err := c.engine.Observe(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return strings.Contains(st.Warning, "by hand"), st.Warning
	})
	if r := l.a.Model().Mirroring()[0]; r.Witness != "" {
		t.Errorf("it has %q again", r.Witness)
	}
}

// TestWatched: whatever the agent asks of a watched instance, SQL Server decides.
func TestWatched(t *testing.T) {
	l := newLab(t, 2, false)
	c := l.careOn(l.a)
	ctx := t.Context()
	st, err := c.engine.Observe(ctx)
	if err != nil || !st.Watched || st.Promotable || st.Role != engine.RolePrimary || len(st.Databases) != 2 {
		t.Errorf("seen %+v, %v", st, err)
	}
	for name, err := range map[string]error{
		"fence": c.engine.Fence(ctx), "stop": c.engine.Stop(ctx), "release": c.engine.ReleaseCommits(ctx),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, handed := c.engine.HandOver(ctx, engine.Peer{})
	for name, err := range map[string]error{
		"promote": c.engine.Promote(ctx, engine.Peer{}), "hold": c.engine.HoldCommits(ctx, engine.Peer{}), "hand over": handed,
		"follow": c.engine.Follow(ctx, engine.Peer{}, nil), "stand by": c.engine.Standby(ctx),
	} {
		if err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
	l.serves(l.a, true)
}
