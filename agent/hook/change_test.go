package hook

import (
	"fmt"
	"strings"
	"testing"
)

// TestChanges tells stories: what is seen one after the other, and what is told of it.
func TestChanges(t *testing.T) {
	serving := func(epoch uint64) Seen { return Seen{Epoch: epoch, Primary: true, Serving: true} }
	shut := func(epoch uint64) Seen { return Seen{Epoch: epoch, Primary: true} }
	follows := func(epoch uint64) Seen { return Seen{Epoch: epoch, Following: true} }
	alone := func(epoch uint64) Seen { return Seen{Epoch: epoch} }
	tests := []struct {
		name  string
		start State
		seen  []Seen
		want  string
	}{
		{"a new pair's primary", Begin(0, false, false), []Seen{alone(0), shut(1), serving(1), serving(1)}, "none>primary"},
		{"a new pair's mirror", Begin(0, false, false), []Seen{alone(0), alone(1), follows(1), follows(1)}, "none>mirror"},
		{"nothing known at all", State{}, []Seen{serving(1), shut(1)}, "none>primary primary>fenced"},
		{"promoted", Begin(4, false, false), []Seen{follows(4), alone(4), shut(5), serving(5)}, "mirror>primary"},
		{"fenced, then mirror", Begin(4, true, true), []Seen{serving(4), shut(4), alone(5), follows(5)},
			"primary>fenced none>mirror"},
		{"one look from primary to mirror", Begin(4, true, true), []Seen{serving(4), follows(5)},
			"primary>fenced none>mirror"},
		{"one look from mirror to primary", Begin(4, false, false), []Seen{follows(4), serving(5)}, "mirror>primary"},
		{"fenced and opened again", Begin(4, true, true), []Seen{serving(4), shut(4), serving(4)},
			"primary>fenced none>primary"},
		{"a receiver that comes and goes", Begin(4, false, false), []Seen{follows(4), alone(4), follows(4)}, ""},
		{"another primary, same mirror", Begin(4, false, false), []Seen{follows(4), follows(5)}, "mirror>mirror"},
		{"a new epoch under a primary that serves", Begin(4, true, true), []Seen{serving(4), serving(5)}, ""},
		{"an agent's restart", Begin(4, true, true), []Seen{shut(4), shut(4), serving(4)}, ""},
		{"an agent's restart, too late", Begin(4, true, true), []Seen{shut(4), alone(5), follows(5)},
			"primary>fenced none>mirror"},
		{"an agent's restart, reinstated", Begin(4, true, true), []Seen{shut(4), shut(5), serving(5)},
			"primary>fenced none>primary"},
		{"a host's restart as primary", Begin(4, true, false), []Seen{shut(4), serving(4)}, "none>primary"},
		{"a mirror's agent restarts", Begin(4, false, false), []Seen{alone(4), follows(4)}, ""},
		{"a mirror's agent restarts into a new epoch", Begin(4, false, false), []Seen{alone(4), follows(5)}, "mirror>mirror"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.start
			var told []string
			for _, seen := range tt.seen {
				var changes []Change
				s, changes = Changes(s, seen)
				for _, c := range changes {
					told = append(told, fmt.Sprintf("%s>%s", c.OldRole, c.Name))
					if want := map[Name]string{Primary: RolePrimary, Mirror: RoleMirror, Fenced: RoleNone}[c.Name]; c.Role != want {
						t.Errorf("after %s the role is %s", c.Name, c.Role)
					}
				}
			}
			if got := strings.Join(told, " "); got != tt.want {
				t.Errorf("told %q, want %q", got, tt.want)
			}
		})
	}
}
