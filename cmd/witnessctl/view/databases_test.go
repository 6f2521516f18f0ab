package view_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// pool is a pair with the databases of a Lync pool, one of them gone astray.
func pool(changes ...func(*witnessv1.Pair)) *witnessv1.Pair {
	databases := func(role, status string) []*witnessv1.DatabaseState {
		var list []*witnessv1.DatabaseState
		for _, d := range []struct{ name, set string }{{"rtcab", "User"}, {"rtcxds", "User"}, {"xds", "CMS"}} {
			list = append(list, &witnessv1.DatabaseState{
				Name: d.name, Sets: []string{d.set}, Role: role, Status: status,
			})
		}
		return list
	}
	return nodetest.Pair("pool1", append([]func(*witnessv1.Pair){func(p *witnessv1.Pair) {
		for _, m := range p.GetMembers() {
			m.Engine = "sqlserver-mirroring"
		}
		a, b := p.GetHosts()[0].GetReport().GetEngine(), p.GetHosts()[1].GetReport().GetEngine()
		a.Databases, b.Databases = databases("Principal", "Synchronized"), databases("Mirror", "Synchronized")
		a.GetDatabases()[2].Role, b.GetDatabases()[2].Role = "Mirror", "Principal"
		b.GetDatabases()[2].Detail = "redo queue 12 MB"
		b.LossBound, b.ServeIn = durationpb.New(3500*time.Millisecond), durationpb.New(42*time.Second)
	}}, changes...)...)
}

func TestDatabases(t *testing.T) {
	nodetest.Golden(t, "databases", plain(140).Show(pool()))
	nodetest.Golden(t, "databases-silent", plain(140).Databases(pool(nodetest.Silent("db2", time.Minute)), view.Choice{}))
	nodetest.Golden(t, "databases-only", plain(140).DatabasesOnly(pool()))
}

func TestChoiceOfDatabases(t *testing.T) {
	for _, test := range []struct {
		choice view.Choice
		want   string
	}{
		{view.Choice{}, "rtcab rtcxds xds"},
		{view.Choice{Sets: []string{"User"}}, "rtcab rtcxds"},
		{view.Choice{Sets: []string{"User", "CMS"}, Exclude: []string{"rtcab"}}, "rtcxds xds"},
		{view.Choice{Sets: []string{"Archiving"}}, ""},
	} {
		var names []string
		for _, d := range view.DatabasesOf(pool(), test.choice) {
			names = append(names, d.Name)
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.choice, got, test.want)
		}
	}
}

// TestDatabaseOnOneHost: what cannot be looked at is said as Get-CsDatabaseMirrorState says it.
func TestDatabaseOnOneHost(t *testing.T) {
	p := pool(func(p *witnessv1.Pair) { p.GetHosts()[1].GetReport().GetEngine().Databases = nil })
	d := view.DatabasesOf(p, view.Choice{})[0]
	if d.StateOnPrimary != "Principal" || d.StateOnMirror != "DatabaseInaccessibleOrMirroringNotEnabled" {
		t.Errorf("got %+v", d)
	}
}

func TestWatched(t *testing.T) {
	watched := func(p *witnessv1.Pair) {
		p.Stage = witnessv1.Stage_STAGE_FORMING
		for _, h := range p.GetHosts() {
			h.GetReport().GetEngine().Watched = true
		}
	}
	if s := view.StateOf(nodetest.Pair("pool1", watched)); s.Word != "watched" || s.Level != view.Fine {
		t.Errorf("got %+v", s)
	}
	s := view.StateOf(nodetest.Pair("pool1", watched, func(p *witnessv1.Pair) {
		p.GetHosts()[0].GetReport().GetEngine().Warning = "SQL Server's witness is disconnected"
	}))
	if s.Word != "watched" || s.Level != view.Attention || !strings.Contains(s.Note, "disconnected") {
		t.Errorf("got %+v", s)
	}
	one := func(p *witnessv1.Pair) { watched(p); p.GetHosts()[1].GetReport().GetEngine().Watched = false }
	if s := view.StateOf(nodetest.Pair("pool1", one)); s.Word != "forming" {
		t.Errorf("one host only: %+v", s)
	}
}

func TestMoves(t *testing.T) {
	want := "would make db2 primary instead of db1, as one, in this order: rtcab, rtcxds, xds; nothing was changed"
	if got := strings.TrimSpace(plain(200).Moves(pool())); got != want {
		t.Errorf("got %q", got)
	}
}
