package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (c *console) asked(method string) []string {
	var nodes []string
	for _, call := range c.Calls(method) {
		nodes = append(nodes, call.Node)
	}
	return nodes
}

// TestNodesDown: a node that is down or frozen costs next to nothing, whichever was named first.
func TestNodesDown(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *console)
		took time.Duration
	}{
		{"all well", func(*console) {}, 0},
		{"the first is down", func(c *console) { c.Kill("w1:7401") }, 0},
		{"two are down", func(c *console) { c.Kill("w1:7401"); c.Kill("w2:7401") }, 0},
		{"the first is frozen", func(c *console) { c.Freeze("w1:7401") }, 250 * time.Millisecond},
		{"one is frozen and one down", func(c *console) { c.Freeze("w1:7401"); c.Kill("w2:7401") }, 250 * time.Millisecond},
		{"two are frozen", func(c *console) { c.Freeze("w1:7401"); c.Freeze("w2:7401") }, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.pair(nodetest.Pair("sales"))
				tt.do(c)
				c.expect("pair show sales", exitDone, "sales  armed")
				if c.took != tt.took {
					t.Errorf("took %v, want %v", c.took, tt.took)
				}
			})
		})
	}
}

// TestAllDown: what came of each endpoint is told, when the time is up.
func TestAllDown(t *testing.T) {
	at(t, func(c *console) {
		c.Kill("w1:7401")
		c.Kill("w2:7401")
		c.Freeze("w3:7401")
		c.expect("pair list --timeout 4s", exitUnreached, "not reached: pair list",
			"w1:7401: connect: connection refused; w2:7401: connect: connection refused; w3:7401: did not answer",
			"... no answer from the witness yet (2.0s)")
		if c.took != 4*time.Second {
			t.Errorf("took %v, want 4s", c.took)
		}
	})
}

// TestNodeComesBack: a node that is started while we try is found.
func TestNodeComesBack(t *testing.T) {
	at(t, func(c *console) {
		for _, a := range []string{"w1:7401", "w2:7401", "w3:7401"} {
			c.Kill(a)
		}
		c.pair(nodetest.Pair("sales"))
		time.AfterFunc(1100*time.Millisecond, func() { c.Start("w2:7401") })
		c.expect("pair list", exitDone, "1 pair: 1 armed")
		if c.took > 1500*time.Millisecond {
			t.Errorf("took %v", c.took)
		}
	})
}

var errNoLeader = nodetest.Refusal(codes.Unavailable, "NO_LEADER", "the witness has no leader at the moment",
	"try again")

// waitThenFail answers like a node that first waits for an election.
func waitThenFail(d time.Duration, err error) nodetest.Answer {
	return func(c nodetest.Call, _ func(proto.Message) error) error {
		select {
		case <-time.After(d):
			return err
		case <-c.Context.Done():
			return status.FromContextError(c.Context.Err()).Err()
		}
	}
}

func TestNoLeader(t *testing.T) {
	at(t, func(c *console) {
		c.Do("Pause", waitThenFail(2*time.Second, errNoLeader))
		c.expect("pair pause sales --reason test", exitUnreached, "the witness has no leader", "witnessctl status",
			"w1:7401: the witness has no leader at the moment; w2:7401: the witness has no leader")
		if got := c.asked("Pause"); len(got) < 3 {
			t.Errorf("asked %v, want all three", got)
		}
		if text := c.err.String(); strings.Contains(text, "it is not known whether") {
			t.Errorf("doubt where there is none:\n%s", text)
		}
		if c.took > 10*time.Second {
			t.Errorf("took %v", c.took)
		}
	})
}

// TestElection: a leader that is elected while we wait is waited for.
func TestElection(t *testing.T) {
	at(t, func(c *console) {
		elected := time.Now().Add(600 * time.Millisecond)
		c.Do("ListPairs", func(_ nodetest.Call, send func(proto.Message) error) error {
			if time.Now().Before(elected) {
				return errNoLeader
			}
			return send(&witnessv1.ListPairsResponse{AsOf: nodetest.AsOf()})
		})
		c.expect("pair list", exitDone, "no pairs")
		if c.took > time.Second {
			t.Errorf("took %v", c.took)
		}
	})
}

// TestDoubt: a request whose answer is lost may have been accepted, and nothing else is said.
func TestDoubt(t *testing.T) {
	at(t, func(c *console) {
		c.Do("Pause", waitThenFail(time.Hour, nil))
		c.expect("pair pause sales --reason test", exitUnreached,
			"the request was sent, and it is not known whether it was accepted", "look before you ask again")
	})
	at(t, func(c *console) {
		c.Do("Pause", func(call nodetest.Call, _ func(proto.Message) error) error {
			if call.Node == "w1:7401" {
				return nodetest.Refusal(codes.Unknown, "OUTCOME_UNKNOWN", "the leader was lost", "look first")
			}
			return nodetest.Refusal(codes.FailedPrecondition, "PROCEDURE_UNDER_WAY", "switchover is under way", "")
		})
		c.expect("pair pause sales --reason test", exitRefused, "PROCEDURE_UNDER_WAY",
			"an earlier try of the same request was not answered and may have been accepted")
	})
	at(t, func(c *console) { // to read leaves none
		c.Do("ListPairs", waitThenFail(time.Hour, nil))
		c.expect("pair list", exitUnreached, "did not answer in time")
		if strings.Contains(c.err.String(), "it is not known") {
			t.Errorf("doubt where there is none:\n%s", c.err)
		}
	})
	at(t, func(c *console) { // interrupted while nobody answers
		ctx, cancel := context.WithCancel(c.ctx)
		c.ctx = ctx
		time.AfterFunc(time.Second, cancel)
		c.Do("Pause", waitThenFail(time.Hour, nil))
		c.expect("pair pause sales --reason test", exitInterrupted, "interrupted: pair pause",
			"it is not known whether it was accepted")
	})
}

// TestPassing: a refusal that goes away by itself is waited out, one that the caller asked for is not.
func TestPassing(t *testing.T) {
	once := func(err error) nodetest.Answer {
		first := true
		return func(_ nodetest.Call, send func(proto.Message) error) error {
			if first {
				first = false
				return err
			}
			return send(&witnessv1.PauseResponse{Pair: nodetest.Pair("sales", nodetest.Paused)})
		}
	}
	undecided := nodetest.Refusal(codes.Aborted, "CHANGE_UNDECIDED", "a change of pair sales is being decided",
		"try again")
	stale := nodetest.Refusal(codes.Aborted, "STALE_REVISION", "decided on revision 11, which is now at 12", "")
	tests := []struct {
		line string
		err  error
		code int
	}{
		{"pair pause sales --reason test", undecided, exitDone},
		{"pair pause sales --reason test", stale, exitDone},
		{"pair pause sales --reason test --expect-revision 11", stale, exitRefused},
	}
	for _, tt := range tests {
		at(t, func(c *console) {
			c.Do("Pause", once(tt.err))
			c.expect(tt.line, tt.code)
		})
	}
	at(t, func(c *console) { // one that does not go away is told as what it is
		c.Fail("Pause", undecided)
		c.expect("pair pause sales --reason test --timeout 3s", exitRefused, "CHANGE_UNDECIDED", "try again")
	})
}
