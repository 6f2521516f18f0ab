package rescue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	home   = "TCP://witness:7022"
	spare1 = "TCP://spare1:7022"
	spare2 = "TCP://spare2:7022"
)

// world is one instance with mirrored databases, whose witnesses live and die. Time is a number of seconds.
type world struct {
	rows  []sqlserver.MirroringRow
	alive map[string]bool
	fail  map[string]error // by statement
	now   time.Time
	m     *memory
	said  []string
	did   []string
}

func newWorld(cfg sqlserver.RescueConfig, databases ...string) *world {
	w := &world{
		alive: map[string]bool{home: true, spare1: true, spare2: true}, fail: map[string]error{},
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), m: newMemory(cfg),
	}
	for i, database := range databases {
		w.rows = append(w.rows, sqlserver.MirroringRow{
			Database: database, GUID: fmt.Sprint("G", i), Role: sqlserver.RolePrincipal, Safety: sqlserver.SafetyIsFull,
			State: sqlserver.StateSynchronized, DatabaseState: sqlserver.DatabaseOnline, Witness: home, RoleSequence: 1,
		})
	}
	return w
}

// run lets so many seconds pass, one look in each; after each look in which a step was done another one follows.
func (w *world) run(seconds int) {
	for range seconds {
		for range 4 {
			if !w.look() {
				break
			}
		}
		w.now = w.now.Add(time.Second)
	}
}

func (w *world) look() bool {
	for i := range w.rows {
		w.rows[i].WitnessState = sqlserver.WitnessDisconnected
		if w.alive[w.rows[i].Witness] {
			w.rows[i].WitnessState = sqlserver.WitnessConnected
		}
		if w.rows[i].Witness == "" {
			w.rows[i].WitnessState = "UNKNOWN"
		}
	}
	for _, address := range w.m.addresses() {
		w.m.heard(address, w.alive[address], w.now)
	}
	for _, n := range w.m.see(w.rows, w.now) {
		w.said = append(w.said, n.database+": "+n.text)
	}
	steps, _ := decide(w.rows, w.m, w.now)
	for _, one := range steps {
		text := one.statement().Text()
		err := w.fail[text]
		w.did = append(w.did, strings.TrimPrefix(text, "ALTER DATABASE "))
		if err == nil {
			i := slices.IndexFunc(w.rows, func(r sqlserver.MirroringRow) bool { return r.GUID == one.guid })
			w.rows[i].Witness = one.want
		}
		w.m.done(one, err, w.now)
	}
	return len(steps) > 0
}

func (w *world) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	if !slices.Equal(w.did, want) {
		t.Errorf("%s: did\n  %s\nwant\n  %s", when, strings.Join(w.did, "\n  "), strings.Join(want, "\n  "))
	}
	w.did = nil
}

func rescueConfig(spares ...string) sqlserver.RescueConfig {
	cfg := sqlserver.Default().Rescue
	cfg.Spares = spares
	return cfg
}

func off(database string) string { return "[" + database + "] SET WITNESS OFF" }
func set(database, address string) string {
	return "[" + database + "] SET WITNESS = '" + address + "'"
}

func TestWitnessDiesAndReturns(t *testing.T) {
	w := newWorld(rescueConfig(spare1, spare2), "a", "b")
	w.run(60)
	w.expect(t, "all is well")
	w.alive[home] = false
	w.run(10)
	w.expect(t, "within the patience")
	w.run(2)
	w.expect(t, "after the patience", off("a"), off("b"), set("a", spare1), set("b", spare1))
	w.run(600)
	w.expect(t, "on the spare")
	w.alive[home] = true
	w.run(599)
	w.expect(t, "the first witness has not answered for long enough")
	w.run(5)
	w.expect(t, "return", off("a"), off("b"), set("a", home), set("b", home))
	w.run(60)
	w.expect(t, "home again")
	if len(w.said) != 0 {
		t.Errorf("said %q, although nobody else did anything", w.said)
	}
}

func TestBlinkingWitnessKeepsItsPlace(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	for range 20 {
		w.alive[home] = false
		w.run(9)
		w.alive[home] = true
		w.run(1)
	}
	w.expect(t, "gone for 9 s again and again")
}

func TestNoSpare(t *testing.T) {
	w := newWorld(rescueConfig(), "a")
	w.alive[home] = false
	w.run(20)
	w.expect(t, "gone", off("a"))
	w.alive[home] = true
	w.run(300)
	w.alive[home] = false
	w.run(10)
	w.alive[home] = true
	w.run(500)
	w.expect(t, "it has not answered for ten minutes in a row")
	w.run(110)
	w.expect(t, "back", set("a", home))
}

func TestSpareThatDoesNotWork(t *testing.T) {
	w := newWorld(rescueConfig(spare1, spare2), "a", "b")
	w.fail["ALTER DATABASE [a] SET WITNESS = '"+spare1+"'"] = errNotDone
	w.alive[home] = false
	w.run(12)
	w.expect(t, "the second spare is taken", off("a"), off("b"), set("a", spare1), set("b", spare1))
	w.run(20)
	w.expect(t, "after a rest", set("a", spare2))
}

func TestSpareDies(t *testing.T) {
	w := newWorld(rescueConfig(spare1, spare2), "a")
	w.alive[home] = false
	w.run(12)
	w.did = nil
	w.alive[spare1] = false
	w.run(12)
	w.expect(t, "the spare is gone too", off("a"), set("a", spare2))
	w.alive[spare2] = false
	w.run(12)
	w.expect(t, "no witness is left", off("a"))
	w.alive[spare2] = true
	w.run(600)
	w.expect(t, "a spare that was gone gets its place again after a while", set("a", spare2))
}

// A port may answer although the sessions cannot use the witness behind it.
func TestWitnessThatAnswersAndIsNotConnected(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.run(700)
	for range 60 {
		for i := range w.rows {
			w.rows[i].WitnessState = sqlserver.WitnessDisconnected
		}
		w.m.heard(home, true, w.now)
		w.m.heard(spare1, true, w.now)
		w.m.see(w.rows, w.now)
		steps, _ := decide(w.rows, w.m, w.now)
		for _, one := range steps {
			w.did = append(w.did, strings.TrimPrefix(one.statement().Text(), "ALTER DATABASE "))
			w.rows[0].Witness = one.want
			w.m.done(one, nil, w.now)
		}
		w.now = w.now.Add(time.Second)
	}
	// 10 s for the first witness; 1 s later the spare, which is no better; then nothing is left for ten minutes.
	w.expect(t, "connected to nobody", off("a"), set("a", spare1), off("a"))
}

func TestNothingWhileNotSynchronized(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*sqlserver.MirroringRow)
		wait   string
	}{
		{"synchronizing", func(r *sqlserver.MirroringRow) { r.State = sqlserver.StateSynchronizing }, "b is SYNCHRONIZING"},
		{"suspended", func(r *sqlserver.MirroringRow) { r.State = sqlserver.StateSuspended }, "b is SUSPENDED"},
		{"disconnected", func(r *sqlserver.MirroringRow) { r.State = sqlserver.StateDisconnected }, "b is DISCONNECTED"},
		{"safety off", func(r *sqlserver.MirroringRow) { r.Safety = sqlserver.SafetyIsOff }, "b has SAFETY OFF"},
	} {
		w := newWorld(rescueConfig(spare1), "a", "b")
		c.change(&w.rows[1])
		w.alive[home] = false
		w.run(60)
		w.expect(t, c.what)
		if _, wait := decide(w.rows, w.m, w.now); !strings.HasPrefix(wait, c.wait) {
			t.Errorf("%s: waits because %q, want %q", c.what, wait, c.wait)
		}
		w.rows[1].State, w.rows[1].Safety = sqlserver.StateSynchronized, sqlserver.SafetyIsFull
		w.run(1)
		w.expect(t, "synchronized again", off("a"), off("b"), set("a", spare1), set("b", spare1))
	}
}

func TestOnlyOnThePrincipal(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a", "b")
	w.rows[0].Role = sqlserver.RoleMirror
	w.alive[home] = false
	w.run(12)
	w.expect(t, "a is principal at the partner", off("b"), set("b", spare1))
	w.rows[0].Role = sqlserver.RolePrincipal
	w.run(2)
	w.expect(t, "a has come over", off("a"), set("a", spare1))
}

// The mirror's caretaker sees what the principal's does, and goes on with it when the principal has moved.
func TestPartnerActsThenWeDo(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.rows[0].Role = sqlserver.RoleMirror
	w.alive[home] = false
	w.run(11)
	w.rows[0].Witness = ""
	w.run(3)
	w.rows[0].Witness = spare1
	w.run(3)
	w.rows[0].Role = sqlserver.RolePrincipal
	w.alive[home] = true
	w.run(300)
	w.expect(t, "the first witness has not answered for long enough")
	w.run(310)
	w.expect(t, "return", off("a"), set("a", home))
	if want := "a: its witness " + home + " was taken out because it was gone"; !slices.Contains(w.said, want) {
		t.Errorf("said %q, want %q among it", w.said, want)
	}
}

func TestPersonTakesWitnessOut(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a", "b")
	w.run(5)
	w.rows[0].Witness = ""
	w.run(1200)
	w.expect(t, "left alone")
	if len(w.said) != 1 || !strings.Contains(w.said[0], "a: it has no witness, taken out by hand: it is left alone") {
		t.Errorf("said %q", w.said)
	}
	w.rows[0].Witness = "TCP://other:7022"
	w.run(5)
	w.alive[home] = false
	w.run(12)
	w.expect(t, "the other database is looked after", off("b"), set("b", spare1))
	if len(w.said) != 2 || !strings.Contains(w.said[1], "a: its witness is TCP://other:7022, set by hand") {
		t.Errorf("said %q", w.said)
	}
	w.alive[home] = true
	w.rows[0].Witness = home
	w.run(5)
	w.alive[home] = false
	w.run(12)
	w.expect(t, "its own witness again", off("a"), set("a", spare1))
}

// One look may fall between a person's two statements; it is not told, and nothing comes of it.
func TestOneOddLook(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.run(5)
	w.rows[0].Witness = ""
	w.look()
	w.rows[0].Witness = home
	w.run(60)
	w.expect(t, "nothing")
	if len(w.said) != 0 {
		t.Errorf("said %q", w.said)
	}
}

// What a person has just set is not touched before it is known whose doing it was.
func TestNothingInAnOddLook(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a", "b")
	w.rows[1].State = sqlserver.StateSuspended
	w.alive[home] = false
	w.run(20)
	w.rows[1].State = sqlserver.StateSynchronized
	w.rows[0].Witness = "TCP://other:7022"
	w.run(2)
	w.expect(t, "a has another witness", off("b"), set("b", spare1))
}

// A person may take a dead witness out before the caretaker does; where, and how soon, says who it was.
func TestPersonIsFaster(t *testing.T) {
	for _, c := range []struct {
		what    string
		role    string
		seconds int // that the witness was gone
		stand   Stand
	}{
		{"on the principal, where only this caretaker acts", sqlserver.RolePrincipal, 9, StandHand},
		{"on the mirror, too soon for the partner's caretaker", sqlserver.RoleMirror, 3, StandHand},
		{"on the mirror, when the partner's caretaker may have", sqlserver.RoleMirror, 9, StandOff},
	} {
		w := newWorld(rescueConfig(spare1), "a")
		w.rows[0].Role = c.role
		w.run(2)
		w.alive[home] = false
		w.run(c.seconds)
		w.rows[0].Witness = ""
		w.run(3)
		if s := w.m.sessions["G0"]; s.Stand != c.stand {
			t.Errorf("%s: it stands %s, want %s", c.what, s.Stand, c.stand)
		}
	}
}

// An agent that ends between its statement and its note of it knows its own doing afterwards.
func TestIntentSurvives(t *testing.T) {
	for _, c := range []struct {
		what    string
		intent  *string
		witness string
		want    []string
	}{
		{"the statement was carried out", new(string), "", []string{set("a", spare1)}},
		{"the statement was not sent", new(string), home, nil},
		{"there was no statement", nil, "", nil},
	} {
		w := newWorld(rescueConfig(spare1), "a")
		w.m.sessions["G0"] = &Session{Database: "a", Home: home, Stand: StandHome, Witness: home, Intent: c.intent}
		w.rows[0].Witness = c.witness
		w.run(5)
		w.expect(t, c.what, c.want...)
	}
}

// A person who takes the witness out after an agent meant to, and did not, is not taken for the agent.
func TestStaleIntent(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.m.sessions["G0"] = &Session{Database: "a", Home: home, Stand: StandHome, Witness: home, Intent: new(string)}
	w.run(5)
	w.rows[0].Witness = ""
	w.run(30)
	w.expect(t, "left alone")
}

func TestMeetsSessions(t *testing.T) {
	for _, c := range []struct {
		what, configured, witness string
		stand                     Stand
		home                      string
	}{
		{"as configured", home, home, StandHome, home},
		{"in other letters", strings.ToLower(home), home, StandHome, strings.ToLower(home)},
		{"not configured", "", home, StandHome, home},
		{"on a spare already", home, spare1, StandSpare, home},
		{"another one", home, "TCP://x:1", StandHand, home},
		{"none", home, "", StandHand, home},
		{"none, and none configured", "", "", StandHand, ""},
	} {
		cfg := rescueConfig(spare1)
		cfg.Witness = c.configured
		w := newWorld(cfg, "a")
		w.rows[0].Witness = c.witness
		w.run(1)
		if s := w.m.sessions["G0"]; s.Stand != c.stand || s.Home != c.home {
			t.Errorf("%s: stands %s with home %q, want %s with %q", c.what, s.Stand, s.Home, c.stand, c.home)
		}
	}
}

func TestSessionGetsAWitness(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.rows[0].Witness = ""
	w.run(5)
	w.rows[0].Witness = home
	w.run(5)
	w.alive[home] = false
	w.run(12)
	w.expect(t, "it is looked after from then on", off("a"), set("a", spare1))
}

// A database that cannot be opened shows no session for a while; its first witness is not forgotten.
func TestSessionsThatAreNotSeen(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.run(5)
	rows := w.rows
	w.rows = nil
	w.run(1800)
	if w.m.sessions["G0"] == nil {
		t.Error("forgotten after half an hour")
	}
	w.run(1900)
	if w.m.sessions["G0"] != nil {
		t.Error("remembered for ever")
	}
	w.rows = rows
	w.run(1)
}

// An agent that stood still has not looked: the witness was seen to be gone twice, not for an hour.
func TestStandstillIsNoPatience(t *testing.T) {
	w := newWorld(rescueConfig(spare1), "a")
	w.alive[home] = false
	w.run(2)
	w.now = w.now.Add(time.Hour)
	w.run(5)
	w.expect(t, "too soon")
	w.run(10)
	w.expect(t, "ten seconds in a row", off("a"), set("a", spare1))
	w.alive[home] = true
	w.run(5)
	w.now = w.now.Add(time.Hour)
	w.run(5)
	w.expect(t, "the first witness was heard twice, not for an hour")
}

func TestFailedStepsRest(t *testing.T) {
	server := func(class sqlserver.Class) error { return &sqlserver.Error{What: "x", Class: class} }
	for _, c := range []struct {
		class sqlserver.Class
		tries int // in the first five minutes after the patience
	}{
		{sqlserver.ClassRetry, 8},        // at 0, 2, 6, 14, 30, 62, 126, 254
		{sqlserver.ClassPrecondition, 5}, // at 0, 10, 30, 70, 150
		{sqlserver.ClassHuman, 1},
		{sqlserver.ClassUnreachable, 5},
	} {
		w := newWorld(rescueConfig(spare1), "a")
		w.fail["ALTER DATABASE [a] SET WITNESS OFF"] = server(c.class)
		w.alive[home] = false
		w.run(10 + 300)
		if len(w.did) != c.tries {
			t.Errorf("%v: tried %d times in five minutes, want %d", c.class, len(w.did), c.tries)
		}
	}
}

// The engine around the decisions refuses what changes an instance, and never keeps the agent from ending.
func TestWatchedOnly(t *testing.T) {
	cfg := sqlserver.Default()
	cfg.Listen, cfg.User, cfg.PasswordEnv, cfg.Encrypt = "127.0.0.1:1", "sa", "NOT_SET", "disable"
	e, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for what, do := range map[string]func() error{
		"Fence": func() error { return e.Fence(ctx) }, "Stop": func() error { return e.Stop(ctx) },
		"ReleaseCommits": func() error { return e.ReleaseCommits(ctx) }, "LetGo": func() error { return e.LetGo(ctx) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
