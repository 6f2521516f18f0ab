package rescue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// statements are what a caretaker sent with success.
func (c *caretaker) statements() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, act := range c.acts {
		if act.Err == nil && strings.HasPrefix(act.What, "ALTER") {
			all = append(all, strings.TrimPrefix(act.What, "ALTER DATABASE "))
		}
	}
	return all
}

// told says whether a caretaker told of something.
func (c *caretaker) told(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.acts, func(act engine.Act) bool {
		return strings.Contains(fmt.Sprint(act.What, "|", act.Detail, "|", act.Err), what)
	})
}

// sent waits until a caretaker has told of these statements and no others.
func (c *caretaker) sent(t *testing.T, want ...string) {
	t.Helper()
	sqlservertest.Eventually(t, "statements "+strings.Join(want, "; "), func() (bool, string) {
		got := c.statements()
		return slices.Equal(got, want), strings.Join(got, "; ")
	})
}

// remembers waits until a caretaker has looked and saved what it saw.
func (c *caretaker) remembers(t *testing.T) {
	t.Helper()
	sqlservertest.Eventually(t, "the sessions are remembered", func() (bool, string) {
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		return c.engine.saved != "", "not yet"
	})
}

// TestOneWitnessOfTwoPairs: the witness of two pairs dies; both get the spare, database by database in order, one loses
// its mirror and serves, and both get their witness back.
func TestOneWitnessOfTwoPairs(t *testing.T) {
	first := newLab(t, 5, true)
	start := func(name string) *sqlservertest.Instance {
		return sqlservertest.Start(t, sqlservertest.Options{Name: name, Ping: ping, Second: second})
	}
	other := *first
	other.a, other.b, other.databases = start("C"), start("D"), []string{"xds", "lis", "mgc", "rgsdyn", "cpsdyn"}
	other.caretakers = map[*sqlservertest.Instance]*caretaker{}
	other.dirs = map[*sqlservertest.Instance]string{}
	sqlservertest.Mirror(t, other.databases, other.a, other.b, other.witness, 10)
	for _, l := range []*lab{first, &other} {
		l.returnAfter = 3 * time.Second
		l.care()
	}
	first.witness.Crash()
	first.witnesses(first.a, first.spare.Endpoint())
	other.witnesses(other.a, first.spare.Endpoint())
	first.b.Crash()
	first.serves(first.a, true)
	first.b.Restart(t)
	sqlservertest.Synchronized(t, first.a, first.databases...)
	first.witness.Restart(t)
	for _, l := range []*lab{first, &other} {
		l.witnesses(l.a, l.witness.Endpoint())
		var want []string
		for _, address := range []string{"", l.spare.Endpoint(), "", l.witness.Endpoint()} {
			for _, database := range l.databases {
				if address == "" {
					want = append(want, off(database))
				} else {
					want = append(want, set(database, address))
				}
			}
		}
		l.caretakers[l.a].sent(t, want...)
		l.caretakers[l.b].sent(t)
	}
}

// TestFailsOverOnTheSpare: SQL Server fails over by itself with the spare's word; the witness is brought back by the
// other caretaker, which has not done any of it so far.
func TestFailsOverOnTheSpare(t *testing.T) {
	l := newLab(t, 2, true)
	l.returnAfter = 3 * time.Second
	l.care()
	l.witness.Crash()
	l.witnesses(l.a, l.spare.Endpoint())
	l.witnesses(l.b, l.spare.Endpoint())
	l.a.Crash()
	l.serves(l.b, true)
	l.a.Restart(t)
	sqlservertest.Synchronized(t, l.b, l.databases...)
	l.witness.Restart(t)
	l.witnesses(l.b, l.witness.Endpoint())
	home := l.witness.Endpoint()
	l.caretakers[l.b].sent(t, off("db00"), off("db01"), set("db00", home), set("db01", home))
	if l.caretakers[l.b].told("by hand") {
		t.Error("the partner's caretaker was taken for a person")
	}
}

// TestKilledAfterItsStatement: an agent that ends between a statement and its note of it has written down before what
// it was about to do, so the next one does not take it for a person's doing.
func TestKilledAfterItsStatement(t *testing.T) {
	l := newLab(t, 1, true)
	c := l.careOn(l.a)
	c.remembers(t)
	l.leave(l.a)
	if err := c.engine.intend(step{guid: strings.ToUpper(l.a.Model().Mirroring()[0].GUID), database: "db00"}); err != nil {
		t.Fatal(err)
	}
	l.a.Exec(t, "ALTER DATABASE [db00] SET WITNESS OFF")
	next := l.careOn(l.a)
	l.witnesses(l.a, l.spare.Endpoint())
	if next.told("by hand") {
		t.Error("the agent took its own doing for a person's")
	}
}

// TestAcceptedAndNotDone: SQL Server says yes and does nothing, then says no; both are seen, told, and tried again.
func TestAcceptedAndNotDone(t *testing.T) {
	l := newLab(t, 1, true)
	l.a.Knobs().FailNext("db00", model.WitnessOff, nil)
	l.a.Knobs().FailNext("db00", model.SetWitness, &model.Error{Number: 1421, Class: 16, Message: "timed out"})
	c := l.careOn(l.a)
	l.witness.Crash()
	l.witnesses(l.a, l.spare.Endpoint())
	c.sent(t, off("db00"), set("db00", l.spare.Endpoint()))
	for _, want := range []string{"SET WITNESS OFF was accepted and not done within", "1421"} {
		if !c.told(want) {
			t.Errorf("not told of %q: %q", want, c.did())
		}
	}
}

// TestLooks: what the agent sees of both partners, of one that hangs, and of one that is not there.
func TestLooks(t *testing.T) {
	l := newLab(t, 3, false)
	l.databases = []string{"db01", "db00"} // db02 is somebody else's
	l.care()
	a, b := l.caretakers[l.a].engine, l.caretakers[l.b].engine
	primary, err := a.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mirror, err := b.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if primary.Role != engine.RolePrimary || primary.Commits != engine.CommitsHeld || !primary.Mirror.Attached {
		t.Errorf("the principal: %+v", primary)
	}
	if mirror.Role != engine.RoleMirror || !mirror.Following {
		t.Errorf("the mirror: %+v", mirror)
	}
	if primary.SystemID == "" || primary.SystemID != mirror.SystemID {
		t.Errorf("identities %q and %q", primary.SystemID, mirror.SystemID)
	}
	want := engine.DatabaseState{
		Name: "db01", Role: "Mirror", Status: "Synchronized", Detail: "SQL Server witness " + l.witness.Endpoint() + " connected",
	}
	if len(mirror.Databases) != 2 || fmt.Sprint(mirror.Databases[0]) != fmt.Sprint(want) {
		t.Errorf("databases %+v, want the first to be %+v", mirror.Databases, want)
	}
	l.a.Knobs().Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if state, err := a.Observe(ctx); err == nil || sqlserver.ClassOf(err) != sqlserver.ClassUnreachable {
		t.Errorf("it hangs, and the look says %+v, %v", state, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the look took %v of 200 ms", took)
	}
	l.a.Knobs().Hang(false)
	l.a.Crash()
	sqlservertest.Eventually(t, "not running", func() (bool, string) {
		state, err := a.Observe(t.Context())
		return err == nil && !state.Running && state.Watched, fmt.Sprint(state.Running, err)
	})
}
