package pair_test

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func TestPolicyRelations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*pair.Policy)
		want   string
	}{
		"default":                      {func(*pair.Policy) {}, ""},
		"heartbeat too short":          {func(p *pair.Policy) { p.Heartbeat = time.Millisecond }, "heartbeat (1ms)"},
		"lease too long":               {func(p *pair.Policy) { p.Lease = time.Hour }, "lease (1h0m0s)"},
		"guard shorter than the fence": {func(p *pair.Policy) { p.Guard = 100 * time.Millisecond }, "guard (100ms)"},
		"guard without room for clocks": {func(p *pair.Policy) {
			p.Lease, p.Guard = 60*time.Second, 300*time.Millisecond
		}, "clock rates"},
		"two lost messages stop it": {func(p *pair.Policy) { p.Heartbeat = time.Second }, "three heartbeats"},
		"mirror time-out too short": {func(p *pair.Policy) { p.MirrorTimeout = time.Millisecond }, "mirror_timeout (1ms)"},
		"release time-out missing":  {func(p *pair.Policy) { p.ReleaseTimeout = 0 }, "release_timeout (0s)"},
		"promote time-out missing":  {func(p *pair.Policy) { p.PromoteTimeout = 0 }, "promote_timeout (0s)"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pair.DefaultPolicy()
			c.change(&p)
			got := strings.Join(p.Validate(), "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestCheckSpec(t *testing.T) {
	good := pair.Create{
		Name: "payroll", Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(),
		Members: [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}},
	}
	for name, c := range map[string]struct {
		change func(*pair.Create)
		want   string
	}{
		"good":                {func(*pair.Create) {}, ""},
		"no name":             {func(c *pair.Create) { c.Name = "" }, "pair name"},
		"name with a slash":   {func(c *pair.Create) { c.Name = "../x" }, "pair name"},
		"one host twice":      {func(c *pair.Create) { c.Members[1].Host = "a" }, "names host a twice"},
		"no instance":         {func(c *pair.Create) { c.Members[1].Instance = "" }, "instance names"},
		"stranger as primary": {func(c *pair.Create) { c.Primary = "c" }, "neither a nor b"},
		"no policy":           {func(c *pair.Create) { c.Policy = pair.Policy{} }, "heartbeat"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := good
			c.change(&spec)
			refusal := pair.CheckSpec(spec)
			switch {
			case c.want == "" && refusal != nil:
				t.Errorf("refused: %v", refusal)
			case c.want != "" && (refusal == nil || !strings.Contains(refusal.Error(), c.want)):
				t.Errorf("got %v, want %q in it", refusal, c.want)
			}
		})
	}
}
