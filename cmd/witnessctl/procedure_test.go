package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

const (
	switchover = witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER
	forced     = witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED
	removal    = witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE
	release    = witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE
	promote    = witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE
	withhold   = witnessv1.ProcedureStep_PROCEDURE_STEP_WITHHOLD
	unmanage   = witnessv1.ProcedureStep_PROCEDURE_STEP_UNMANAGE
)

const procedureID = "0a1b2c3d-12"

// course is how a procedure goes, by the time since its start. Every node tells the same.
type course struct {
	kind    witnessv1.ProcedureKind
	steps   []stepAt
	outcome *witnessv1.Outcome // nil: it never ends
	end     time.Duration
	started time.Time
}

type stepAt struct {
	at   time.Duration
	step witnessv1.ProcedureStep
}

// state is what a node tells, and until when.
func (p *course) state() (*witnessv1.ProcedureState, time.Time) {
	since := time.Since(p.started)
	s := &witnessv1.ProcedureState{Pair: "sales-0a1b2c3d", PairName: "sales", AsOf: nodetest.AsOf()}
	q := nodetest.Procedure(p.kind, p.steps[0].step)
	q.Started = timestamppb.New(nodetest.Now().Add(-since)) // so that its age is right on the node's clock
	until := p.started.Add(p.end)
	for _, st := range slices.Backward(p.steps) {
		if st.at <= since {
			q.Step = st.step
			break
		}
		until = p.started.Add(st.at)
	}
	s.Procedure = q
	if p.outcome != nil && since >= p.end {
		s.Outcome = proto.CloneOf(p.outcome)
		s.Outcome.Procedure = q
		return s, time.Time{}
	}
	return s, until
}

// goes lets a procedure go its course from the moment a method is called.
func (c *console) goes(method string, answer proto.Message, p *course) {
	c.Do(method, func(_ nodetest.Call, send func(proto.Message) error) error {
		p.started = time.Now()
		return send(answer)
	})
	c.Do("WatchProcedure", func(call nodetest.Call, send func(proto.Message) error) error {
		if got := call.Request.(*witnessv1.WatchProcedureRequest).GetProcedure(); got != procedureID {
			return nodetest.Refusal(codes.NotFound, "NO_SUCH_PROCEDURE", "procedure "+got+" is not known", "")
		}
		for {
			s, until := p.state()
			if err := send(&witnessv1.WatchProcedureResponse{State: s}); err != nil || s.GetOutcome() != nil {
				return err
			}
			next := time.Hour
			if p.outcome != nil || until.After(time.Now()) {
				next = time.Until(until)
			}
			select {
			case <-call.Context.Done():
				return status.FromContextError(call.Context.Err()).Err()
			case <-time.After(next):
			}
		}
	})
}

func switching(outcome *witnessv1.Outcome) *course {
	return &course{kind: switchover, outcome: outcome, end: 1900 * time.Millisecond,
		steps: []stepAt{{0, release}, {400 * time.Millisecond, promote}}}
}

func done(detail string) *witnessv1.Outcome { return &witnessv1.Outcome{Done: true, Detail: detail} }

func startSwitchover() *witnessv1.SwitchoverResponse {
	return &witnessv1.SwitchoverResponse{Procedure: procedureID, Pair: nodetest.Pair("sales")}
}

func TestSwitchover(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.goes("Switchover", startSwitchover(), switching(done("db2 serves epoch 8")))
		c.golden("switchover", "pair switchover sales --to db2 --reason 'patch db1'")
		q := c.last("Switchover").(*witnessv1.SwitchoverRequest)
		want := &witnessv1.SwitchoverRequest{Pair: "sales-0a1b2c3d", Target: "db2", ExpectedEpoch: 7, By: "ann@desk",
			Reason: "patch db1"}
		if !proto.Equal(q, want) {
			t.Errorf("asked for %v, want %v", q, want)
		}
	})
}

// switched is the pair just after a switchover: db1 is about to follow db2, and complains of how that goes.
func switched(p *witnessv1.Pair) {
	nodetest.Exposed(p)
	p.Primary, p.Mirror, p.Epoch, p.EpochChanged = "db2", "db1", 8, nodetest.Ago(2*time.Second)
	db1, db2 := p.GetHosts()[0].GetReport(), p.GetHosts()[1].GetReport()
	db1.Serving, db1.Engine.Role = false, "none"
	db1.Complaint = "follow: follow db2: db2 at db2:5432 is a copy itself"
	db2.Serving, db2.Epoch, db2.EpochPrimary, db2.Engine.Role = true, 8, "db2", "primary"
}

// TestAftermath: the last line after a change of primary tells what is on its way, and what is amiss only if
// it is not on its way.
func TestAftermath(t *testing.T) {
	tests := []struct {
		name   string
		change func(*witnessv1.Pair)
		want   string // "": that the new mirror is being attached
	}{
		{"attaching", func(*witnessv1.Pair) {}, ""},
		{"long after", func(p *witnessv1.Pair) { p.EpochChanged = nodetest.Ago(time.Minute) },
			"now sales: exposed, primary db2, mirror db1, epoch 8, right sole, mode automatic: db1: follow: "},
		{"not heard", nodetest.Silent("db1", 5*time.Second), "now sales: exposed, "},
		{"paused", nodetest.Paused, "now sales: paused, "},
		{"moved again", func(p *witnessv1.Pair) { p.Primary, p.Mirror = "db1", "db2" }, "now sales: no primary serving, "},
		{"does not serve", func(p *witnessv1.Pair) { p.GetHosts()[1].GetReport().Serving = false },
			"now sales: no primary serving, "},
		{"armed by now", func(p *witnessv1.Pair) {
			p.Right, p.FailoverReady, p.FailoverBlocked = witnessv1.Right_RIGHT_LEASED, true, nil
			p.GetHosts()[0].GetReport().Complaint = ""
		}, "now sales: armed, primary db2, mirror db1, epoch 8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.pair(nodetest.Pair("sales", switched, tt.change))
				c.goes("Switchover", startSwitchover(), switching(done("db2 serves epoch 8")))
				if tt.want == "" {
					c.golden("switchover-attaching", "pair switchover sales")
					return
				}
				c.expect("pair switchover sales", exitDone, tt.want)
			})
		})
	}
}

func TestSwitchoverNotDone(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.goes("Switchover", startSwitchover(), switching(&witnessv1.Outcome{Reason: "TIMED_OUT",
			Detail: "step release took longer than 30s"}))
		c.golden("switchover-not-done", "pair switchover sales")
		if c.code != exitNotDone {
			t.Errorf("exit code %d", c.code)
		}
	})
}

func TestNoWait(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.Say("Switchover", startSwitchover())
		c.golden("switchover-no-wait", "pair switchover sales --no-wait")
		if len(c.Calls("WatchProcedure")) > 0 {
			t.Error("watched")
		}
	})
}

// TestWaitAcrossNodes: the node that is watched dies, freezes or loses its leader in the midst of it, and the
// steps go on as if nothing had been.
func TestWaitAcrossNodes(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *console, node string)
		late time.Duration // how much later the end may be seen
	}{
		{"dies", func(c *console, node string) { c.Kill(node) }, 0},
		{"dies and is started again", func(c *console, node string) { c.Kill(node); c.Start(node) }, 0},
		{"freezes", func(c *console, node string) {
			// What is connected says nothing any more, and what connects does not get through.
			c.silence("WatchProcedure", node)
			c.Freeze(node)
		}, procedureQuiet + time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.pair(nodetest.Pair("sales"))
				p := switching(done("db2 serves epoch 8"))
				p.end = 20 * time.Second
				c.goes("Switchover", startSwitchover(), p)
				time.AfterFunc(time.Second, func() { tt.do(c, c.asked("WatchProcedure")[0]) })
				c.expect("pair switchover sales", exitDone, "release: ", "promote: ", "done: db2 serves epoch 8")
				for _, once := range []string{"release: ", "promote: ", "done: "} {
					if n := strings.Count(c.out.String(), once); n != 1 {
						t.Errorf("%q %d times:\n%s", once, n, c.both())
					}
				}
				if strings.Contains(c.both(), "failed") {
					t.Errorf("claims a failure:\n%s", c.both())
				}
				if c.took < p.end || c.took > p.end+tt.late+pauseOfTest {
					t.Errorf("took %v", c.took)
				}
			})
		})
	}
}

const pauseOfTest = 300 * time.Millisecond

// silence makes a node say nothing more in the streams of a method.
func (c *console) silence(method, node string) {
	answer := c.Answering(method)
	c.Do(method, func(call nodetest.Call, send func(proto.Message) error) error {
		if call.Node == node {
			<-call.Context.Done()
			return nil
		}
		return answer(call, send)
	})
}

// TestWaitWithoutLeader: nobody can say how it goes for a while. That is no outcome.
func TestWaitWithoutLeader(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		p := switching(done("db2 serves epoch 8"))
		p.end = 20 * time.Second
		c.goes("Switchover", startSwitchover(), p)
		answer := c.Answering("WatchProcedure")
		c.Do("WatchProcedure", func(call nodetest.Call, send func(proto.Message) error) error {
			if since := time.Since(p.started); since > 2*time.Second && since < 30*time.Second {
				return errNoLeader
			}
			return answer(call, send)
		})
		time.AfterFunc(3*time.Second, func() { c.Kill("w1:7401") })
		c.expect("pair switchover sales", exitDone, "done: db2 serves epoch 8")
		if strings.Contains(c.both(), "failed") {
			t.Errorf("claims a failure:\n%s", c.both())
		}
	})
}

// TestWaitLost: nobody answers for a minute. The procedure goes on, and that is what is said.
func TestWaitLost(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.goes("Switchover", startSwitchover(), &course{kind: switchover, steps: []stepAt{{0, release}}})
		time.AfterFunc(time.Second, func() {
			for _, a := range []string{"w1:7401", "w2:7401", "w3:7401"} {
				c.Kill(a)
			}
		})
		c.expect("pair switchover sales", exitUnreached, "not reached: pair switchover sales",
			"switchover of sales goes on without this command; how it ends is not known here",
			"keep watching: witnessctl procedure wait "+procedureID)
		if c.took < procedureLost || c.took > procedureLost+3*time.Second {
			t.Errorf("took %v", c.took)
		}
	})
}

// TestWatchingRefused: the procedure was begun, and to watch it is refused. Not the switchover is.
func TestWatchingRefused(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.Say("Switchover", startSwitchover())
		c.Fail("WatchProcedure", nodetest.Refusal(codes.NotFound, "NO_SUCH_PROCEDURE", "procedure is not known", ""))
		c.expect("pair switchover sales", exitUnreached, "switchover of sales goes on without this command",
			"keep watching: witnessctl procedure wait "+procedureID)
		if strings.Contains(c.both(), "refused: ") {
			t.Errorf("claims a refusal:\n%s", c.both())
		}
	})
}

// TestInterrupt: Ctrl-C ends this command and nothing else.
func TestInterrupt(t *testing.T) {
	at(t, func(c *console) {
		ctx, cancel := context.WithCancel(c.ctx)
		c.ctx = ctx
		c.pair(nodetest.Pair("sales"))
		c.goes("Switchover", startSwitchover(), &course{kind: switchover, steps: []stepAt{{0, release}}})
		time.AfterFunc(5*time.Second, cancel)
		c.golden("switchover-interrupted", "pair switchover sales")
		if c.code != exitInterrupted {
			t.Errorf("exit code %d", c.code)
		}
	})
}

// TestLostAnswer: the request was accepted and its answer lost. The next node refuses the repeated request,
// and the procedure that is under way is found to be ours.
func TestLostAnswer(t *testing.T) {
	tests := []struct {
		name, reason string
		mine         bool
	}{
		{"ours", "PROCEDURE_UNDER_WAY", true},
		{"ours, ended by now", "STALE_EPOCH", true},
		{"somebody else's", "PROCEDURE_UNDER_WAY", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				p := nodetest.Pair("sales")
				q := nodetest.Procedure(switchover, release)
				if !tt.mine {
					q.By = "bob@desk"
				}
				accepted := false
				c.Do("GetPair", func(_ nodetest.Call, send func(proto.Message) error) error {
					now := proto.CloneOf(p)
					if accepted && tt.reason == "STALE_EPOCH" {
						now.Last, now.Epoch = &witnessv1.Outcome{Procedure: q, Done: true}, 8
					} else if accepted {
						now.Procedure = q
					}
					return send(&witnessv1.GetPairResponse{Pair: now})
				})
				c.goes("Switchover", startSwitchover(), switching(done("db2 serves epoch 8")))
				start := c.Answering("Switchover")
				c.Do("Switchover", func(call nodetest.Call, send func(proto.Message) error) error {
					if accepted {
						return nodetest.Refusal(codes.FailedPrecondition, tt.reason, "switchover 0a1b2c3d-12 is under way", "")
					}
					accepted = true
					if err := start(call, func(proto.Message) error { return nil }); err != nil {
						return err
					}
					return status.Error(codes.Unavailable, "connection reset")
				})
				if !tt.mine {
					c.expect("pair switchover sales --reason 'patch db1'", exitRefused, tt.reason,
						"an earlier try of the same request was not answered and may have been accepted")
					return
				}
				c.expect("pair switchover sales --reason 'patch db1'", exitDone, procedureID, "done: db2 serves epoch 8")
			})
		})
	}
}

// TestProcedureWait: whoever comes later sees the same end, with the time since its start.
func TestProcedureWait(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		p := switching(done("db2 serves epoch 8"))
		c.goes("Switchover", startSwitchover(), p)
		p.started = time.Now().Add(-time.Second)
		c.golden("procedure-wait", "procedure wait "+procedureID)
		c.expect("procedure wait nonsense", exitRefused, "NO_SUCH_PROCEDURE")
		if strings.Contains(c.both(), "goes on") {
			t.Errorf("an unknown procedure goes on:\n%s", c.both())
		}
	})
}

// TestProcedureJSON: stdout is one document, the last state; the steps are on stderr.
func TestProcedureJSON(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.goes("Switchover", startSwitchover(), switching(done("db2 serves epoch 8")))
		c.expect("pair switchover sales -o json", exitDone)
		var got witnessv1.WatchProcedureResponse
		fromJSON(t, c.out.String(), &got)
		if !got.GetState().GetOutcome().GetDone() || got.GetState().GetProcedure().GetId() != procedureID {
			t.Errorf("got %v", &got)
		}
		if !strings.Contains(c.err.String(), "promote: ") {
			t.Errorf("stderr: %s", c.err)
		}
	})
}

func TestRemove(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.goes("RemovePair", &witnessv1.RemovePairResponse{Procedure: procedureID}, &course{kind: removal,
			steps: []stepAt{{0, unmanage}}, end: time.Second, outcome: done("db1 confirmed that it is no longer managed")})
		c.golden("remove", "pair remove sales")
	})
	at(t, func(c *console) { // one that had not begun is gone at once
		c.pair(nodetest.Pair("sales"))
		c.Say("RemovePair", &witnessv1.RemovePairResponse{})
		c.expect("pair remove sales", exitDone, "sales is removed")
	})
}

var errHostOff = nodetest.Refusal(codes.FailedPrecondition, "HOST_OFF_NOT_CONFIRMED",
	"db1 serves alone by right and does not answer: it may still be serving clients",
	"make sure that db1 is off or cut from its clients, then add --host-off db1")

// needsWord refuses to force a failover until somebody states that db1 is off.
func (c *console) needsWord() {
	c.pair(nodetest.Pair("sales", nodetest.Exposed, nodetest.Silent("db1", time.Minute)))
	c.goes("ForceFailover", &witnessv1.ForceFailoverResponse{Procedure: procedureID}, &course{kind: forced,
		steps: []stepAt{{0, release}, {4 * time.Second, withhold}, {5 * time.Second, promote}}, end: 6 * time.Second,
		outcome: done("db2 serves epoch 8")})
	force := c.Answering("ForceFailover")
	c.Do("ForceFailover", func(call nodetest.Call, send func(proto.Message) error) error {
		if call.Request.(*witnessv1.ForceFailoverRequest).GetHostOff() == "" {
			return errHostOff
		}
		return force(call, send)
	})
}

func TestForcedFailover(t *testing.T) {
	const line = "pair failover sales --force --epoch 7 --accept-loss --reason 'db1 burnt down'"
	t.Run("stated by a flag", func(t *testing.T) {
		at(t, func(c *console) {
			c.needsWord()
			c.golden("failover", line+" --host-off db1")
			want := &witnessv1.ForceFailoverRequest{Pair: "sales-0a1b2c3d", ExpectedEpoch: 7, AcceptLoss: true,
				HostOff: "db1", By: "ann@desk", Reason: "db1 burnt down"}
			if got := c.last("ForceFailover"); !proto.Equal(got, want) {
				t.Errorf("asked for %v, want %v", got, want)
			}
		})
	})
	t.Run("no terminal", func(t *testing.T) {
		at(t, func(c *console) {
			c.needsWord()
			c.golden("failover-no-terminal", line)
			if n := len(c.Calls("ForceFailover")); c.code != exitRefused || n != 1 {
				t.Errorf("exit code %d after %d requests", c.code, n)
			}
		})
	})
	for typed, code := range map[string]int{"db1": exitDone, "": exitFailed, "yes": exitFailed, "db2": exitFailed} {
		t.Run(fmt.Sprintf("typed %q", typed), func(t *testing.T) {
			at(t, func(c *console) {
				c.needsWord()
				c.terminal(typed)
				c.expect(line, code, "Type its name to state that it is")
				requests := map[int]int{exitDone: 2, exitFailed: 1}
				if n := len(c.Calls("ForceFailover")); n != requests[code] {
					t.Errorf("%d requests", n)
				}
				if code == exitFailed && !strings.Contains(c.err.String(), "nothing was changed") {
					t.Errorf("%s", c.both())
				}
			})
		})
	}
	t.Run("another refusal asks nothing", func(t *testing.T) {
		at(t, func(c *console) {
			c.pair(nodetest.Pair("sales"))
			c.terminal("db1")
			c.Fail("ForceFailover", nodetest.Refusal(codes.Aborted, "STALE_EPOCH", "decided on epoch 7", ""))
			c.expect(line, exitRefused, "STALE_EPOCH")
			if strings.Contains(c.both(), "Type its name") {
				t.Errorf("%s", c.both())
			}
		})
	})
}

func TestRemoveConfirmed(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales", nodetest.Silent("db1", time.Minute)))
		c.Do("RemovePair", func(call nodetest.Call, send func(proto.Message) error) error {
			if call.Request.(*witnessv1.RemovePairRequest).GetHostOff() != "db1" {
				return errHostOff
			}
			return send(&witnessv1.RemovePairResponse{})
		})
		c.terminal("db1")
		c.expect("pair remove sales", exitDone, "sales is removed")
	})
}

func TestAdopt(t *testing.T) {
	restored := nodetest.Pair("sales", func(p *witnessv1.Pair) {
		p.Stage = witnessv1.Stage_STAGE_RESTORED
		p.GetHosts()[1].GetReport().FileKnown = false
	})
	for typed, code := range map[string]int{"db2": exitDone, "db1": exitFailed} {
		at(t, func(c *console) {
			c.pair(restored)
			c.Say("AdoptPair", &witnessv1.AdoptPairResponse{Pair: restored})
			c.terminal(typed)
			c.expect("pair adopt sales", code, "db2 has reported no epoch file")
			if code == exitDone && c.last("AdoptPair").(*witnessv1.AdoptPairRequest).GetHost() != "db2" {
				t.Error("did not speak for db2")
			}
		})
	}
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales", nodetest.NeverHeard))
		c.terminal("db2")
		c.expect("pair adopt sales", exitUsage, "2 hosts of sales have reported no epoch file", "--host HOST")
	})
}
