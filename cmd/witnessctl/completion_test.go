package main

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func TestCompletion(t *testing.T) {
	pairs := []*witnessv1.Pair{
		nodetest.Pair("sales"), nodetest.Pair("stock", nodetest.UnderWay(switchover, release)), nodetest.Pair("hr"),
	}
	tests := []struct{ line, want string }{
		{"pair show ''", "sales\tarmed, primary db1|stock\tswitching over, primary db1|hr\tarmed, primary db1"},
		{"pair show s", "sales\tarmed, primary db1|stock\tswitching over, primary db1"},
		{"pair show sales ''", ""},
		{"pair switchover sales --to ''", "db1\tprimary|db2\tmirror"},
		{"pair switchover sales --to db2", "db2\tmirror"},
		{"pair failover hr --host-off ''", "db1\tprimary|db2\tmirror"},
		{"pair switchover --to ''", ""},
		{"events --pair h", "hr\tarmed, primary db1"},
		{"procedure wait ''", "0a1b2c3d-12\tswitchover of stock"},
		{"node remove ''", "w1|w2"},
		{"node transfer --to w2", "w2"},
		{"pair list -o ''", "table|json|yaml"},
		{"pair set sales --profile ''", "fast\tlease 1 s, for hosts in one room|default\tlease 3 s|" +
			"patient\tlease 12 s, for slow hosts"},
		{"pair list ''", ""},
		{"pair re", "remove\ttake a pair out of the witness's care|" +
			"replace-mirror\tput another host in the mirror's place|resume\tlet the witness decide again"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			at(t, func(c *console) {
				c.Say("ListPairs", &witnessv1.ListPairsResponse{Pairs: pairs, AsOf: nodetest.AsOf()})
				c.Say("GetStatus", &witnessv1.GetStatusResponse{Nodes: []*witnessv1.NodeStatus{{Id: "w1"}, {Id: "w2"}}})
				c.expect("__complete "+tt.line, exitDone)
				lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
				if got := strings.Join(lines[:len(lines)-1], "|"); got != tt.want || lines[len(lines)-1] != ":4" {
					t.Errorf("got %q, %s\nwant %q, :4", got, lines[len(lines)-1], tt.want)
				}
			})
		})
	}
}

// TestCompletionUnreached: somebody who presses the tab key waits a second and is told nothing.
func TestCompletionUnreached(t *testing.T) {
	at(t, func(c *console) {
		for _, a := range []string{"w1:7401", "w2:7401", "w3:7401"} {
			c.Freeze(a)
		}
		c.expect("__complete pair show ''", exitDone)
		if got := c.out.String(); got != ":4\n" || c.took > completionTimeout {
			t.Errorf("after %v: %q", c.took, got)
		}
	})
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		at(t, func(c *console) { c.expect("completion "+shell, exitDone, "witnessctl") })
	}
}
