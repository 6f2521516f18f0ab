package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// These tests run the engine, with Microsoft's driver over real sockets, against fake instances that keep SQL
// Server's own witness. They say nothing about a real SQL Server.

func instance(t *testing.T, name, role string) *sqlservertest.Instance {
	return sqlservertest.Start(t, sqlservertest.Options{
		Name: name, EndpointRole: role, Ping: 20 * time.Millisecond, Second: 40 * time.Millisecond,
	})
}

// diary is what a caretaker told.
type diary struct {
	mu   sync.Mutex
	acts []engine.Act
}

func (d *diary) told(act engine.Act) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acts = append(d.acts, act)
}

// statements are those that succeeded.
func (d *diary) statements() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, act := range d.acts {
		if act.Err == nil && strings.HasPrefix(act.What, "ALTER") {
			all = append(all, strings.TrimPrefix(act.What, "ALTER DATABASE "))
		}
	}
	return all
}

func (d *diary) has(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.acts, func(act engine.Act) bool {
		return strings.Contains(fmt.Sprint(act.What, "|", act.Detail, "|", act.Err), what)
	})
}

// sent waits until a caretaker has told of these statements and no others.
func (d *diary) sent(t *testing.T, want ...string) {
	t.Helper()
	sqlservertest.Eventually(t, "statements "+strings.Join(want, "; "), func() (bool, string) {
		got := d.statements()
		return slices.Equal(got, want), strings.Join(got, "; ")
	})
}

// caretaker is an agent's part on one host.
type caretaker struct {
	*diary
	engine *Engine
	stop   func()
}

// care starts a caretaker for an instance, with what it remembers in dir.
func care(t *testing.T, on *sqlservertest.Instance, dir string, change func(*sqlserver.Config)) *caretaker {
	t.Helper()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("fake\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := sqlserver.Default()
	cfg.Listen, cfg.User, cfg.PasswordFile, cfg.Encrypt = on.Address(), "sa", password, "disable"
	cfg.StateFile = filepath.Join(dir, on.Name()+".sqlserver")
	cfg.Rescue.Patience, cfg.Rescue.ReturnAfter = time.Second, 3*time.Second
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.settle = 2 * time.Second
	c := &caretaker{diary: &diary{}, engine: e}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Care(ctx, c.told)
	}()
	c.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

func spares(all ...*sqlservertest.Instance) func(*sqlserver.Config) {
	return func(cfg *sqlserver.Config) {
		for _, s := range all {
			cfg.Rescue.Spares = append(cfg.Rescue.Spares, s.Endpoint())
		}
	}
}

// have waits until every database of an instance has this witness, "" for none, connected.
func have(t *testing.T, on *sqlservertest.Instance, witness string) {
	t.Helper()
	sqlservertest.Eventually(t, fmt.Sprintf("the witness on %s is %q", on.Name(), witness), func() (bool, string) {
		for _, m := range on.Model().Mirroring() {
			if !strings.EqualFold(m.Witness, witness) || witness != "" && m.WitnessStateDesc != "CONNECTED" {
				return false, fmt.Sprintf("%s: %q %s", m.Database, m.Witness, m.WitnessStateDesc)
			}
		}
		return len(on.Model().Mirroring()) > 0, "nothing is mirrored"
	})
}

func inState(t *testing.T, on *sqlservertest.Instance, role, state string) {
	t.Helper()
	sqlservertest.Eventually(t, on.Name()+" is "+role+" "+state, func() (bool, string) {
		for _, m := range on.Model().Mirroring() {
			if m.RoleDesc != role || m.Desc != state {
				return false, m.Database + " is " + m.RoleDesc + " " + m.Desc
			}
		}
		return true, ""
	})
}

// write commits a row in each database, or says why it cannot.
func write(t *testing.T, on *sqlservertest.Instance, databases ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, database := range databases {
		if _, err := on.DB(t, database).ExecContext(ctx, "INSERT INTO t (v) VALUES (N'x')"); err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
	}
	return nil
}

// The shared witness dies under ten databases of two pairs; both pairs are rescued to the spare. Then one primary loses
// its mirror and serves on, where it would have stopped. The witness comes back and gets its place.
func TestSharedWitnessDies(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	var principals, mirrors []*sqlservertest.Instance
	var takers []*caretaker
	names := [][]string{{"rtcxds", "rtcab", "rtcshared", "rgsconfig", "cpsdyn"}, {"lcslog", "lcscdr", "qoemetrics", "xds", "lis"}}
	for i, databases := range names {
		p, m := instance(t, fmt.Sprint("p", i), "PARTNER"), instance(t, fmt.Sprint("m", i), "PARTNER")
		sqlservertest.Mirror(t, databases, p, m, witness, 5)
		principals, mirrors = append(principals, p), append(mirrors, m)
		dir := t.TempDir()
		takers = append(takers, care(t, p, dir, spares(spare)), care(t, m, dir, spares(spare)))
	}
	witness.Crash()
	for _, p := range principals {
		have(t, p, spare.Endpoint())
	}
	mirrors[0].Crash()
	inState(t, principals[0], "PRINCIPAL", "DISCONNECTED")
	if err := write(t, principals[0], names[0]...); err != nil {
		t.Errorf("rescued, and it does not serve without its mirror: %v", err)
	}
	mirrors[0].Restart(t)
	inState(t, principals[0], "PRINCIPAL", "SYNCHRONIZED")
	witness.Restart(t)
	for _, p := range principals {
		have(t, p, witness.Endpoint())
	}
	for i, databases := range names {
		var want []string
		for _, address := range []string{"", spare.Endpoint(), "", witness.Endpoint()} {
			for _, database := range slices.Sorted(slices.Values(databases)) {
				if address == "" {
					want = append(want, off(database))
				} else {
					want = append(want, set(database, address))
				}
			}
		}
		takers[2*i].sent(t, want...)
		if got := takers[2*i+1].statements(); len(got) != 0 {
			t.Errorf("pair %d: the mirror's caretaker did %q", i, got)
		}
	}
}

// Without anybody to rescue it, the same primary stops: row 10 of the table of failures, which the rescue is for.
func TestWithoutRescueThePrincipalStops(t *testing.T) {
	t.Parallel()
	witness, p, m := instance(t, "witness", "WITNESS"), instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"rtcxds"}, p, m, witness, 5)
	witness.Crash()
	sqlservertest.Eventually(t, "the witness is gone", func() (bool, string) {
		state := p.Model().Mirroring()[0].WitnessStateDesc
		return state == "DISCONNECTED", state
	})
	m.Crash()
	sqlservertest.Eventually(t, "the principal stops", func() (bool, string) {
		err := write(t, p, "rtcxds")
		return err != nil, "it serves"
	})
}

// Without a spare the witness is taken out all the same, and the principal serves without its mirror.
func TestNoSpareOnTheFake(t *testing.T) {
	t.Parallel()
	witness, p, m := instance(t, "witness", "WITNESS"), instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a", "b"}, p, m, witness, 5)
	c := care(t, p, t.TempDir(), nil)
	witness.Crash()
	have(t, p, "")
	sqlservertest.Eventually(t, "a warning", func() (bool, string) {
		state, err := c.engine.Observe(t.Context())
		return err == nil && strings.Contains(state.Warning, "a, b: no witness, because it was gone"), state.Warning
	})
	m.Crash()
	inState(t, p, "PRINCIPAL", "DISCONNECTED")
	if err := write(t, p, "a", "b"); err != nil {
		t.Error(err)
	}
}

// SQL Server fails over by itself, with the spare's word; then the other host's caretaker brings the witness back.
func TestPrincipalMovesToThePartner(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a", "b"}, p, m, witness, 5)
	dir := t.TempDir()
	here, there := care(t, p, dir, spares(spare)), care(t, m, dir, spares(spare))
	witness.Crash()
	have(t, p, spare.Endpoint())
	have(t, m, spare.Endpoint())
	here.sent(t, off("a"), off("b"), set("a", spare.Endpoint()), set("b", spare.Endpoint()))
	p.Crash()
	sqlservertest.Eventually(t, "automatic failover", func() (bool, string) {
		err := write(t, m, "a", "b")
		return err == nil, fmt.Sprint(err)
	})
	p.Restart(t)
	inState(t, m, "PRINCIPAL", "SYNCHRONIZED")
	witness.Restart(t)
	have(t, m, witness.Endpoint())
	want := []string{off("a"), off("b"), set("a", witness.Endpoint()), set("b", witness.Endpoint())}
	there.sent(t, want...)
	if got := here.statements(); len(got) != 4 {
		t.Errorf("the caretaker of the old principal did %q", got[4:])
	}
}

// An agent is stopped after the witness was taken out; the next one knows who did it, and goes on.
func TestAgentRestartsHalfWay(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a"}, p, m, witness, 5)
	dir := t.TempDir()
	first := care(t, p, dir, nil) // it has no spare
	witness.Crash()
	have(t, p, "")
	first.stop()
	second := care(t, p, dir, spares(spare))
	have(t, p, spare.Endpoint())
	if second.has("by hand") {
		t.Error("it took its own doing for a person's")
	}
}

// An agent that is killed between its statement and its note of it has written down before what it was about to do.
func TestAgentKilledAfterItsStatement(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a"}, p, m, witness, 5)
	dir := t.TempDir()
	first := care(t, p, dir, nil)
	sqlservertest.Eventually(t, "the session is remembered", func() (bool, string) {
		first.engine.mu.Lock()
		defer first.engine.mu.Unlock()
		return first.engine.saved != "", "not yet"
	})
	first.stop()
	guid := p.Model().Mirroring()[0].GUID
	if err := first.engine.intend(step{guid: strings.ToUpper(guid), database: "a"}); err != nil {
		t.Fatal(err)
	}
	p.Exec(t, "ALTER DATABASE a SET WITNESS OFF")
	second := care(t, p, dir, spares(spare))
	have(t, p, spare.Endpoint())
	if second.has("by hand") {
		t.Error("it took its own doing for a person's")
	}
}

// SQL Server says yes and does nothing; that is seen, told, and tried again.
func TestStatementThatFailsLater(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a"}, p, m, witness, 5)
	p.Knobs().FailNext("a", model.WitnessOff, nil)
	p.Knobs().FailNext("a", model.SetWitness, &model.Error{Number: 1421, Class: 16, Message: "timed out"})
	c := care(t, p, t.TempDir(), func(cfg *sqlserver.Config) { spares(spare)(cfg) })
	witness.Crash()
	sqlservertest.Eventually(t, "it is told", func() (bool, string) {
		return c.has("was accepted and not done within 2s: its witness is"), "not yet"
	})
	have(t, p, spare.Endpoint())
	if !c.has("1421") {
		t.Error("the refused SET WITNESS was not told")
	}
}

// A person takes the witness out while all is well: it stays out.
func TestPersonOnTheFake(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a"}, p, m, witness, 5)
	c := care(t, p, t.TempDir(), spares(spare))
	sqlservertest.Eventually(t, "the session is remembered", func() (bool, string) {
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		return c.engine.saved != "", "not yet"
	})
	p.Exec(t, "ALTER DATABASE a SET WITNESS OFF")
	sqlservertest.Eventually(t, "it is told", func() (bool, string) { return c.has("taken out by hand"), "not yet" })
	if got := c.statements(); len(got) != 0 {
		t.Errorf("it did %q", got)
	}
}

func TestObserveOnTheFake(t *testing.T) {
	t.Parallel()
	witness, p, m := instance(t, "witness", "WITNESS"), instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"b", "a", "c"}, p, m, witness, 5)
	dir := t.TempDir()
	unit := func(cfg *sqlserver.Config) { cfg.Databases = []string{"b", "a"} }
	here, there := care(t, p, dir, unit), care(t, m, dir, unit)
	primary, err := here.engine.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mirror, err := there.engine.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !primary.Watched || primary.Role != engine.RolePrimary || primary.Commits != engine.CommitsHeld || !primary.Mirror.Attached {
		t.Errorf("the principal: %+v", primary)
	}
	if !mirror.Watched || mirror.Role != engine.RoleMirror || !mirror.Following || mirror.Promotable {
		t.Errorf("the mirror: %+v", mirror)
	}
	if primary.SystemID == "" || primary.SystemID != mirror.SystemID {
		t.Errorf("identities %q and %q", primary.SystemID, mirror.SystemID)
	}
	if len(primary.Databases) != 2 || primary.Databases[0].Name != "b" || primary.Databases[0].Role != "Principal" ||
		mirror.Databases[1].Role != "Mirror" || mirror.Databases[1].Status != "Synchronized" {
		t.Errorf("databases %+v and %+v", primary.Databases, mirror.Databases)
	}
	// A server that hangs is an error; one that is not there is not running.
	p.Knobs().Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if state, err := here.engine.Observe(ctx); err == nil {
		t.Errorf("it hangs, and the look says %+v", state)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the look took %v of 200 ms", took)
	}
	p.Knobs().Hang(false)
	p.Crash()
	sqlservertest.Eventually(t, "not running", func() (bool, string) {
		state, err := here.engine.Observe(t.Context())
		return err == nil && !state.Running, fmt.Sprint(state.Running, err)
	})
}

// A witness is changed only while everything is SYNCHRONIZED.
func TestWaitsForTheMirror(t *testing.T) {
	t.Parallel()
	witness, spare := instance(t, "witness", "WITNESS"), instance(t, "spare", "WITNESS")
	p, m := instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a", "b"}, p, m, witness, 5)
	c := care(t, p, t.TempDir(), spares(spare))
	p.Exec(t, "ALTER DATABASE [b] SET PARTNER SUSPEND")
	witness.Crash()
	sqlservertest.Eventually(t, "it says what it waits for", func() (bool, string) {
		state, err := c.engine.Observe(t.Context())
		return err == nil && strings.Contains(state.Warning, "rescue waits: b is SUSPENDED"), fmt.Sprint(state.Warning, err)
	})
	if got := c.statements(); len(got) != 0 {
		t.Errorf("it did %q", got)
	}
	p.Exec(t, "ALTER DATABASE [b] SET PARTNER RESUME")
	have(t, p, spare.Endpoint())
}

// Whatever the agent asks of a watched instance, SQL Server decides.
func TestRefusesToDecide(t *testing.T) {
	t.Parallel()
	witness, p, m := instance(t, "witness", "WITNESS"), instance(t, "p", "PARTNER"), instance(t, "m", "PARTNER")
	sqlservertest.Mirror(t, []string{"a"}, p, m, witness, 5)
	e := care(t, p, t.TempDir(), nil).engine
	ctx := t.Context()
	for what, err := range map[string]error{
		"fence": e.Fence(ctx), "stop": e.Stop(ctx), "release": e.ReleaseCommits(ctx), "let go": e.LetGo(ctx),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, handed := e.HandOver(ctx, engine.Peer{})
	for what, err := range map[string]error{
		"promote": e.Promote(ctx, engine.Peer{}), "hold": e.HoldCommits(ctx, engine.Peer{}), "hand over": handed,
		"follow": e.Follow(ctx, engine.Peer{}, nil), "stand by": e.Standby(ctx),
	} {
		if err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	if err := write(t, p, "a"); err != nil {
		t.Errorf("it does not serve any more: %v", err)
	}
}
