package main

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
)

// TestRefusals: what the witness says no with decides the exit code and what is printed, for every verb alike.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{
			"a refusal", nodetest.Refusal(codes.FailedPrecondition, "MIRROR_NOT_FOLLOWING", "db2 receives no changes",
				"see witnessctl pair explain sales"), exitRefused,
			"refused: pair show sales\n" +
				"  why: db2 receives no changes (MIRROR_NOT_FOLLOWING)\n" +
				"  do:  see witnessctl pair explain sales\n",
		},
		{
			"a refusal without advice", nodetest.Refusal(codes.NotFound, "UNKNOWN_PAIR", "there is no pair sales", ""),
			exitRefused,
			"refused: pair show sales\n" +
				"  why: there is no pair sales (UNKNOWN_PAIR)\n" +
				"  do:  see witnessctl pair list; a removed pair is known by its id only\n",
		},
		{
			"a reason that is newer than this program", nodetest.Refusal(codes.FailedPrecondition, "MOON_IS_FULL",
				"the moon is full", ""), exitRefused,
			"refused: pair show sales\n  why: the moon is full (MOON_IS_FULL)\n",
		},
		{
			"no permission", status.Error(codes.PermissionDenied, "viewers change nothing"), exitRefused,
			"refused: pair show sales\n  why: viewers change nothing (PermissionDenied)\n",
		},
		{
			"an older witness", status.Error(codes.Unimplemented, "unknown method"), exitFailed,
			"failed: pair show sales\n" +
				"  why: this witness does not know the call: its version is older than that of witnessctl\n",
		},
		{
			"a fault of the witness", nodetest.Refusal(codes.Internal, "INTERNAL", "a bug", ""), exitFailed,
			"failed: pair show sales\n  why: a bug (Internal)\n",
		},
		{
			"what a terminal would obey", nodetest.Refusal(codes.FailedPrecondition, "X", "\x1b[2Jgone", ""), exitRefused,
			"refused: pair show sales\n  why: ?[2Jgone (X)\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.Fail("GetPair", tt.err)
				c.run("pair show sales")
				if got := c.err.String(); c.code != tt.code || got != tt.want || c.out.String() != "" {
					t.Errorf("code %d, want %d\n%s\nwant stderr\n%s", c.code, tt.code, c.both(), tt.want)
				}
				if c.took != 0 {
					t.Errorf("took %v: a refusal is final", c.took)
				}
			})
		})
	}
}

// TestRefusalJSON: programs read the reason from the last line of stderr.
func TestRefusalJSON(t *testing.T) {
	at(t, func(c *console) {
		c.Fail("Pause", nodetest.Refusal(codes.Aborted, "STALE_EPOCH", "decided on epoch 6, which is now at 7", ""))
		c.expect("pair pause sales --reason test --expect-epoch 6 -o json", exitRefused)
		var got struct{ Error ending }
		if err := json.Unmarshal([]byte(c.err.String()), &got); err != nil {
			t.Fatalf("%v in %s", err, c.err)
		}
		e := got.Error
		if e.Code != exitRefused || e.Reason != "STALE_EPOCH" || e.Word != "refused" || e.What != "pair pause sales" ||
			!strings.Contains(e.Do, "pair show") || e.Metadata["leader"] != "w1" {
			t.Errorf("got %+v", e)
		}
		if c.out.String() != "" {
			t.Errorf("stdout: %s", c.out)
		}
	})
}

// TestUsage: a mistake in the command line is told before anybody is asked.
func TestUsage(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", "witnessctl needs a command"},
		{"pair", "witnessctl pair needs a command"},
		{"pare list", `witnessctl has no command "pare"; did you mean pair?`},
		{"pair swichover sales", "did you mean switchover?"},
		{"pair list extra", `witnessctl pair list does not take "extra"`},
		{"pair show", "witnessctl pair show needs NAME"},
		{"pair show sales --nonsense", "unknown flag: --nonsense"},
		{"pair list -o xml", `output "xml" is not table, json or yaml`},
		{"pair list --timeout -1s", "timeout -1s is not above zero"},
		{"pair list --endpoint w1", `endpoint "w1" is not host:port`},
		{"pair create sales --host db1", "give --host twice"},
		{"pair create sales --host db1 --host =main", `"=main" is not HOST or HOST=INSTANCE`},
		{"pair create sales --host db1 --host db2 --mode auto", `mode "auto" is not automatic, manual or observe`},
		{"pair pause sales", "a pause needs --reason"},
		{"pair set sales", "nothing to set"},
		{"pair failover sales", "needs --force; if both hosts are there, use: witnessctl pair switchover sales"},
		{"pair failover sales --force", "needs --epoch"},
		{"pair failover sales --force --epoch x", `invalid argument "x"`},
		{"pair switchover sales --expect-revision 1.x", "is not a revision"},
		{"pair replace-mirror sales", "name the new mirror: --host"},
		{"pair adopt sales", "name the host whose epoch file is gone: --host HOST"},
		{"node add w4", "--raft host:port and --api host:port"},
		{"snapshot", "witnessctl snapshot needs FILE"},
		{"completion", "witnessctl completion needs a shell: bash, zsh, fish or powershell"},
		{"completion tcsh", `takes bash, zsh, fish or powershell, not "tcsh"`},
		{"--version pair list", "unknown flag: --version"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			at(t, func(c *console) { c.expect(tt.line, exitUsage, "usage: ", tt.want, "see witnessctl") })
		})
	}
}
