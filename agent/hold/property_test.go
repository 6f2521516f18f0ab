package hold_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/witnessd/witnessd/agent/hold"
)

// notebook is what an observer beside the agent of host a knows: the promises that it gave, the leases that it was
// granted, and what it was last told to do.
type notebook struct {
	t   *rapid.T
	s   hold.State
	now hold.Instant

	disk     hold.File
	fence    hold.Renew // zero: shut
	promised hold.Instant
	of       hold.Epoch                  // the epoch of that promise
	leases   map[hold.Epoch]hold.Instant // the end of the latest one of each epoch, in full
	heard    hold.Revision
	right    hold.Right // of the revision heard
	armed    hold.Revision
	do       hold.Do
	released hold.Epoch
	mark     hold.Mark
	start    hold.Instant
}

func (n *notebook) step(ev hold.Event) {
	var acts []hold.Action
	before := n.s
	n.s, acts = hold.Step(n.s, ev, n.now)
	ops := 0
	for i, act := range acts {
		switch act := act.(type) {
		case hold.Save:
			if act.File.Epoch < n.disk.Epoch || act.File.Released < n.disk.Released || act.File.Revision < n.disk.Revision {
				n.t.Fatalf("file went back from %+v to %+v", n.disk, act.File)
			}
			n.disk = act.File
		case hold.Renew:
			n.fence = act
			n.renewed(act)
		case hold.Fence:
			n.fence = hold.Renew{}
		case hold.Do:
			n.do = act
			if act.Op != hold.OpNone {
				ops++
			}
		case hold.ReplyPartner:
			if act.Says.Lease > 0 {
				n.granted(act.Says, acts[:i])
			}
		case hold.SendWitness, hold.SendPartner, hold.Note:
		}
	}
	if n.disk != n.s.File {
		n.t.Fatalf("%T: the file is not on disk", ev)
	}
	if ops > 1 {
		n.t.Fatalf("%T: told to do %d things at once: %v", ev, ops, acts)
	}
	r := n.s.Report(n.now)
	if r.Request == hold.RequestArm {
		n.armed = max(n.armed, r.RequestRevision)
		if n.fence.Endless {
			n.t.Fatalf("asks to arm with an endless fence; before: %+v", before.Status(n.now))
		}
	}
	if r.Released < n.released {
		n.t.Fatalf("forgot that it released epoch %d", n.released)
	}
	n.released = r.Released
	until, endless, ok := n.s.ServeUntil(n.now)
	if ok && (n.fence.Until != until || n.fence.Endless != endless) {
		n.t.Fatalf("serves until %v, endless %t; the fence knows %+v", until, endless, n.fence)
	}
	if !ok && n.fence != (hold.Renew{}) && (n.fence.Endless || n.fence.Until > n.now) {
		if _, ended := ev.(hold.Fenced); !ended {
			n.t.Fatalf("has no right, and the fence knows %+v", n.fence)
		}
		n.fence = hold.Renew{}
	}
}

// renewed checks a right that the fence is told of against the notebook.
func (n *notebook) renewed(r hold.Renew) {
	kept := n.mark.Epoch == r.Epoch && n.now.Sub(n.start) >= 0
	switch {
	case n.disk.Primary != "a" || r.Epoch != n.disk.Epoch:
		n.t.Fatalf("told the fence of epoch %d of %s", n.disk.Epoch, n.disk.Primary)
	case n.disk.Released >= r.Epoch:
		n.t.Fatalf("serves epoch %d, which it released", r.Epoch)
	case r.Endless && kept && n.mark.Endless, !r.Endless && kept && r.Until <= n.mark.Until:
	case n.of < r.Epoch && n.now < n.promised:
		n.t.Fatalf("serves epoch %d, promised for another %v not to", r.Epoch, n.promised.Sub(n.now))
	case r.Endless && (n.right != hold.RightSole || n.heard <= n.armed):
		n.t.Fatalf("serves without end; heard %v at revision %d, sent an arm at %d", n.right, n.heard, n.armed)
	case !r.Endless && r.Until > n.leases[r.Epoch].Add(-guard):
		n.t.Fatalf("serves until %v, its leases end at %v", r.Until, n.leases[r.Epoch])
	}
}

// granted checks a lease that this host gives its partner, and writes the promise down.
func (n *notebook) granted(says hold.Says, before []hold.Action) {
	if n.disk.Primary != "b" || says.Epoch != n.disk.Epoch || says.Primary != "b" {
		n.t.Fatalf("granted %+v with %+v on disk, after %v", says, n.disk, before)
	}
	n.promised, n.of = n.now.Add(says.Lease), says.Epoch
}

// says draws an answer of the witness, of the present record or of one that is a little older or newer.
func (n *notebook) says(t *rapid.T) hold.WitnessSays {
	epoch := n.disk.Epoch + hold.Epoch(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "epochs on"))
	primary := n.disk.Primary
	if epoch != n.disk.Epoch || epoch == 0 {
		epoch = max(epoch, 1)
		primary = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "primary")
	}
	s := hold.WitnessSays{
		Sent: n.now.Add(-time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms ago")) * ms), Term: 1,
		Epoch: epoch, Primary: primary, Mirror: other(primary), Automatic: rapid.Bool().Draw(t, "automatic"),
		Right:    rapid.SampledFrom([]hold.Right{hold.RightSole, hold.RightLeased}).Draw(t, "right"),
		Revision: n.disk.Revision + hold.Revision(rapid.SampledFrom([]int{0, 0, 1, 1, 2, -1}).Draw(t, "revisions on")),
		Timing:   timing(), Longest: lease, Name: "sales", Peer: hold.Peer{Host: "b", ServiceAddress: "db"},
		Ask:      hold.Ask(rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 2, 3, 4}).Draw(t, "ask")),
		AskEpoch: epoch,
	}
	if epoch > n.disk.Epoch {
		s.Revision = n.disk.Revision + 1
	}
	if s.Revision == n.heard {
		s.Right = n.right // a revision says the same each time
	}
	if primary == "a" && rapid.IntRange(0, 3).Draw(t, "lease") > 0 {
		s.Lease = lease
	}
	return s
}

func (n *notebook) take(s hold.WitnessSays) {
	if s.Epoch >= n.disk.Epoch && s.Revision >= n.disk.Revision {
		n.heard, n.right = s.Revision, s.Right
	}
	if s.Lease > 0 {
		n.leases[s.Epoch] = max(n.leases[s.Epoch], s.Sent.Add(s.Lease))
	}
	n.step(s)
}

func (n *notebook) look(t *rapid.T) hold.Engine {
	e := hold.Engine{Began: n.now, Running: rapid.IntRange(0, 5).Draw(t, "running") > 0, SystemID: "7", Promotable: true,
		Run: rapid.SampledFrom([]string{"1", "1", "1", "1", "2"}).Draw(t, "run")}
	if e.Running {
		e.Role = rapid.SampledFrom([]hold.Role{hold.RolePrimary, hold.RolePrimary, hold.RoleMirror}).Draw(t, "role")
	}
	if e.Role == hold.RolePrimary {
		e.Commits = rapid.SampledFrom([]hold.Commits{hold.CommitsHeld, hold.CommitsHeld, hold.CommitsAlone}).Draw(t, "commits")
		e.MirrorAttached = rapid.IntRange(0, 5).Draw(t, "attached") > 0
	}
	return e
}

// TestAgentKeepsTheRules drives one host at random through answers, requests, looks, operations, restarts and time.
func TestAgentKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &notebook{t: t, now: hold.Instant(time.Hour), disk: fileOf("a", 1, "a")}
		n.restart(t, hold.Mark{})
		t.Repeat(map[string]func(*rapid.T){
			"witness": func(t *rapid.T) { n.t = t; n.take(n.says(t)) },
			"partner answers": func(t *rapid.T) {
				n.t = t
				sent := n.now.Add(-time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms ago")) * ms)
				says := hold.Says{Pair: "p1", Epoch: n.disk.Epoch, Primary: n.disk.Primary, Revision: n.disk.Revision, Lease: lease}
				if n.disk.Primary == "a" {
					n.leases[n.disk.Epoch] = max(n.leases[n.disk.Epoch], sent.Add(lease))
				} else {
					says.Lease = 0
				}
				n.step(hold.PartnerAnswered{Sent: sent, Host: "b", Says: says})
			},
			"partner asks": func(t *rapid.T) {
				n.t = t
				on := hold.Epoch(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "epochs on"))
				says := hold.Says{Pair: "p1", Epoch: n.disk.Epoch + on, Primary: n.disk.Primary, AskLease: true,
					Revision: n.disk.Revision + 1}
				if on > 0 {
					says.Primary = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "primary")
					n.right = hold.RightUnknown
				}
				if rapid.IntRange(0, 9).Draw(t, "release asked") == 0 {
					says.ReleaseAsked = says.Epoch
				}
				n.step(hold.PartnerAsked{Token: 1, Host: "b", Says: says})
			},
			"look": func(t *rapid.T) { n.t = t; n.step(hold.EngineSeen{Engine: n.look(t)}) },
			"exit": func(t *rapid.T) { n.t = t; n.step(hold.EngineExited{Reason: "test"}) },
			"operation ends": func(t *rapid.T) {
				n.t = t
				if n.do.Op == hold.OpNone {
					return
				}
				done := hold.EngineDone{Op: n.do.Op, ID: n.do.ID, Engine: n.look(t), Everything: rapid.Bool().Draw(t, "everything")}
				if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
					done.Err = "it failed"
				}
				n.do = hold.Do{}
				n.step(done)
			},
			"time": func(t *rapid.T) {
				n.t = t
				n.now = n.now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * ms)
				if f := n.fence; f != (hold.Renew{}) && !f.Endless && n.now >= f.Until && rapid.Bool().Draw(t, "fence is first") {
					n.fence = hold.Renew{}
					n.step(hold.Fenced{Why: "test"})
					return
				}
				n.step(hold.Tick{})
			},
			"restart": func(t *rapid.T) {
				n.t = t
				mark := hold.Mark{}
				if rapid.Bool().Draw(t, "the mark is there") {
					mark = hold.Mark(n.fence)
				}
				n.restart(t, mark)
			},
		})
	})
}

// restart is a new start of the agent: it may have sent an arm at the revision on disk, and may have promised for the
// longest lease.
func (n *notebook) restart(t *rapid.T, mark hold.Mark) {
	n.t = t
	n.s = hold.New("a", n.disk, true, mark, n.now)
	n.mark, n.start, n.do = mark, n.now, hold.Do{}
	n.fence, n.leases, n.right = hold.Renew{}, map[hold.Epoch]hold.Instant{}, hold.RightUnknown
	n.heard = 0
	n.armed = max(n.armed, n.disk.Revision)
}
