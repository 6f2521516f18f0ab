package mirroring

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

func TestEnding(t *testing.T) {
	for _, c := range []struct {
		name   string
		rows   []string
		age    time.Duration
		proven bool
	}{
		{"synchronized a moment before", []string{"a P SYNCHRONIZED", "b P SYNCHRONIZED"}, 200 * time.Millisecond, true},
		{"at the limit", []string{"a P SYNCHRONIZED"}, proofAge, true},
		{"too long ago", []string{"a P SYNCHRONIZED"}, proofAge + 1, false},
		{"one was not", []string{"a P SYNCHRONIZED", "b P SYNCHRONIZING"}, 0, false},
		{"the mirror was gone", []string{"a P DISCONNECTED"}, 0, false},
		{"suspended", []string{"a P SUSPENDED"}, 0, false},
		{"one had been handed over", []string{"a M SYNCHRONIZED", "b P SYNCHRONIZED"}, 0, true},
		{"one was not mirrored any more", []string{"a alone", "b P SYNCHRONIZED"}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lookAt(t, c.rows...)
			l.began = now()
			if e := endingOf(sightOf(l, sight{}), c.age); e.Proven != c.proven {
				t.Errorf("proven %v (%s), want %v", e.Proven, e.Why, c.proven)
			}
		})
	}
	if e := endingOf(sight{}, 0); e.Proven {
		t.Errorf("proven without a look: %s", e.Why)
	}
	async := lookAt(t, "a P SYNCHRONIZED")
	async.began, async.unit[0].Safety = now(), sqlserver.SafetyIsOff
	if e := endingOf(sightOf(async, sight{}), 0); e.Proven {
		t.Errorf("proven with SAFETY OFF: %s", e.Why)
	}
}

func TestSuspendedSessions(t *testing.T) {
	end := func(proven bool) *ending {
		return &ending{Proven: proven, Why: "because", Sequences: map[string]int32{"GUID-a": 3},
			Ends: map[string]string{"a": "33000000016800001"}}
	}
	for _, c := range []struct {
		name string
		row  string
		end  *ending
		want []string // parts of why not; none if it may be resumed
	}{
		{"after the failover that the end is of", "a M SUSPENDED 4", end(true), nil},
		{"the end proves nothing", "a M SUSPENDED 4", end(false), []string{"because", "33000000016800001", "SET PARTNER RESUME"}},
		{"no end is known", "a M SUSPENDED 4", nil, []string{"not by a failover", "SET PARTNER RESUME"}},
		{"no exchange of roles since", "a M SUSPENDED 3", end(true), []string{"not by a failover"}},
		{"more than one exchange since", "a M SUSPENDED 5", end(true), []string{"not by a failover"}},
		{"another session", "b M SUSPENDED 4", end(true), []string{"not by a failover"}},
		{"principal here", "a P SUSPENDED 4", end(true), []string{"not by a failover"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := suspended(row(t, c.row), c.end)
			if len(c.want) == 0 && got != "" {
				t.Errorf("not resumed: %s", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}
