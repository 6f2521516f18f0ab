package availability

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// primaryLook is a look at a primary whose mirror has everything.
func primaryLook() look {
	l := look{run: "r"}
	l.known = true
	l.group = sqlserver.GroupRow{
		ID: "G", Name: "g", ClusterType: sqlserver.ClusterExternal, Role: sqlserver.GroupRolePrimary, ReplicaID: "A",
		Required: 1,
	}
	l.replicas = []sqlserver.ReplicaRow{
		{ID: "A", Server: "SQL1", Mode: sqlserver.ModeSynchronous, Local: true, Connected: "CONNECTED"},
		{ID: "B", Server: "SQL2", Mode: sqlserver.ModeSynchronous, Connected: "CONNECTED"},
	}
	l.databases = []sqlserver.GroupDatabaseRow{
		{
			Database: "d", GroupID: "D", ReplicaID: "A", Local: true, State: sqlserver.StateSynchronized,
			DatabaseState: sqlserver.DatabaseOnline, Committed: sqlserver.LSN{VLF: 33, Block: 20, Slot: 4},
		},
		{
			Database: "d", GroupID: "D", ReplicaID: "B", State: sqlserver.StateSynchronized,
			Hardened: sqlserver.LSN{VLF: 33, Block: 20, Slot: 1},
		},
	}
	return l
}

// mirrorLook is the same from the other side.
func mirrorLook() look {
	l := primaryLook()
	l.group.Role, l.group.ReplicaID, l.group.Connected = sqlserver.GroupRoleSecondary, "B", "CONNECTED"
	l.replicas[0].Local, l.replicas[1].Local = false, true
	l.databases = l.databases[1:]
	l.databases[0].Local, l.databases[0].DatabaseState = true, sqlserver.DatabaseOnline
	return l
}

func TestPosition(t *testing.T) {
	e := &Engine{}
	seen := func(l look) engine.State {
		var s engine.State
		e.position(l, &s)
		return s
	}
	l := primaryLook()
	if s := seen(l); s.Mirror.Flushed != s.Position {
		t.Fatalf("the mirror has the block of the last commit, and %+v is shown", s)
	}
	// SQL Server shows nothing, or an older block, of a mirror that has everything.
	l.databases[0].Committed.Block, l.databases[1].Hardened = 30, sqlserver.LSN{}
	if s := seen(l); s.Mirror.Flushed.Offset >= s.Position.Offset {
		t.Fatalf("a commit has come since, and %+v is shown", s)
	}
	if s := seen(l); s.Mirror.Flushed != s.Position {
		t.Fatalf("nothing has come since, and %+v is shown", s)
	}
	l.databases[1].State = sqlserver.StateSynchronizing
	if s := seen(l); s.Mirror.Flushed == s.Position {
		t.Fatalf("a mirror that catches up shows %+v", s)
	}
}

func TestUnusable(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*look)
		want   string
	}{
		"pair":   {func(*look) {}, ""},
		"third":  {func(l *look) { add(l, sqlserver.ModeConfigurationOnly) }, ""},
		"none":   {func(l *look) { l.group.ClusterType = sqlserver.ClusterNone }, "CLUSTER_TYPE = NONE"},
		"wsfc":   {func(l *look) { l.group.ClusterType = sqlserver.ClusterWSFC }, "Windows Server Failover Clustering"},
		"async":  {func(l *look) { l.replicas[1].Mode = sqlserver.ModeAsynchronous }, "SYNCHRONOUS_COMMIT"},
		"three":  {func(l *look) { add(l, sqlserver.ModeSynchronous) }, "3 data replicas"},
		"single": {func(l *look) { l.replicas = l.replicas[:1] }, "1 data replica "},
		"two configuration-only": {func(l *look) {
			add(l, sqlserver.ModeConfigurationOnly)
			add(l, sqlserver.ModeConfigurationOnly)
		}, "2 configuration-only"},
		"on the third": {func(l *look) {
			add(l, sqlserver.ModeConfigurationOnly)
			l.replicas[0].Local, l.replicas[2].Local, l.group.ReplicaID = false, true, l.replicas[2].ID
		}, "run the agent on the data replicas"},
	} {
		l := primaryLook()
		c.change(&l)
		if got := unusable(l.view); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.want != "" && commits(l) == engine.CommitsHeld {
			t.Errorf("%s: commits are said to be held", name)
		}
	}
}

func add(l *look, mode string) {
	id := "C" + strings.Repeat("C", len(l.replicas))
	l.replicas = append(l.replicas, sqlserver.ReplicaRow{ID: id, Server: "SQL3", Mode: mode})
}

func TestUnpromotable(t *testing.T) {
	had := stored{Group: "G", Synchronized: map[string]bool{"D": true}}
	for name, c := range map[string]struct {
		change func(*look)
		m      stored
		want   string
	}{
		"complete":       {func(*look) {}, had, ""},
		"without a past": {func(l *look) { lose(l) }, stored{}, "was not SYNCHRONIZED"},
		"of another group by the name": {
			func(l *look) { lose(l) }, stored{Group: "X", Synchronized: had.Synchronized}, "was not SYNCHRONIZED",
		},
		"alone":        {func(l *look) { lose(l) }, had, ""},
		"resolving":    {func(l *look) { lose(l); l.group.Role = sqlserver.GroupRoleResolving }, had, ""},
		"catching up":  {func(l *look) { l.databases[0].State = sqlserver.StateSynchronizing }, had, "may lack"},
		"reverting":    {func(l *look) { l.databases[0].State = "REVERTING" }, had, "REVERTING"},
		"initializing": {func(l *look) { l.databases[0].State = "INITIALIZING" }, had, "INITIALIZING"},
		"suspended":    {func(l *look) { lose(l); l.databases[0].Suspended = true }, had, "suspended"},
		"suspect":      {func(l *look) { l.databases[0].DatabaseState = sqlserver.DatabaseSuspect }, had, "SUSPECT"},
		"nothing":      {func(l *look) { l.databases = nil }, had, "no database"},
		"a new database": {func(l *look) {
			lose(l)
			l.databases = append(l.databases, l.databases[0])
			l.databases[1].GroupID, l.databases[1].Database = "E", "e"
		}, had, "e was not SYNCHRONIZED"},
	} {
		l := mirrorLook()
		c.change(&l)
		if got := unpromotable(l.view, c.m); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// lose is what a mirror shows whose primary is gone.
func lose(l *look) {
	l.group.Connected, l.databases[0].State = disconnected, notSynchronizing
}
