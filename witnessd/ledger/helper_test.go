package ledger

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// node drives a ledger as the replicated log would, with commands that are decided on what it holds.
type node struct {
	*Ledger
	t     testing.TB
	index uint64
	term  uint64
	log   []logged
}

// logged is an entry with its place in the log.
type logged struct {
	index, term uint64
	data        []byte
}

func newNode(t testing.TB) *node { return &node{Ledger: New(), t: t, term: 3} }

// put applies an entry with the next index; some indexes belong to Raft itself and are left out.
func (n *node) put(data []byte) Result {
	n.t.Helper()
	n.index += 1 + n.index%3
	n.log = append(n.log, logged{n.index, n.term, data})
	result, ok := n.Apply(n.index, n.term, data).(Result)
	if !ok || result.Index != n.index {
		n.t.Fatalf("entry %d: result is %+v", n.index, result)
	}
	return result
}

// command is a body decided on what the ledger holds.
func (n *node) command(id pair.ID, body pair.Body) pair.Command {
	revision := n.FirstRevision()
	if r, ok := n.Pair(id); ok {
		revision = r.Revision
	}
	return pair.Command{
		Pair: id, Revision: revision, Term: pair.Term(n.term), At: 1_700_000_000_000 + int64(n.index)*250, Body: body,
	}
}

// try proposes a body, which may be refused.
func (n *node) try(id pair.ID, body pair.Body) Result {
	n.t.Helper()
	return n.put(EncodeCommand(n.command(id, body)))
}

// must proposes a body, which must be accepted.
func (n *node) must(id pair.ID, body pair.Body) pair.Record {
	n.t.Helper()
	result := n.try(id, body)
	if result.Refusal != nil {
		n.t.Fatalf("%T for %s: %v", body, id, result.Refusal)
	}
	return result.Record
}

// ready makes a pair that serves.
func (n *node) ready(id pair.ID, name string) {
	n.t.Helper()
	n.must(id, create(name))
	n.must(id, pair.Begin{})
}

// image is the ledger's snapshot.
func (n *node) image() []byte {
	n.t.Helper()
	return image(n.t, n.Ledger)
}

func image(t testing.TB, l *Ledger) []byte {
	t.Helper()
	write, err := l.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func restored(t testing.TB, snapshot []byte) *Ledger {
	t.Helper()
	l := New()
	if err := l.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	return l
}

func create(name string) pair.Create {
	return pair.Create{
		Name: name, Primary: "alpha", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(), By: "ann",
		Members: [2]pair.Member{{Host: "alpha", Instance: "main"}, {Host: "beta", Instance: "main"}},
	}
}

func member(host pair.HostID) pair.Member {
	return pair.Member{
		Host: host, Instance: "main", LinkAddress: string(host) + ":7401",
		ServiceAddress: string(host) + ":5432", Engine: "postgres", SystemID: "7301",
	}
}

// life uses every body at least once, on four pairs and three nodes.
func (n *node) life() {
	for i := range 3 {
		n.put(EncodeSetNode(Node{
			ID: fmt.Sprintf("w%d", i), RaftAddress: fmt.Sprintf("w%d:7400", i), APIAddress: fmt.Sprintf("w%d:7402", i),
		}))
	}
	n.put(EncodeRemoveNode("w1"))
	n.put(EncodeSetNode(Node{ID: "w2", RaftAddress: "w2.example:7400", APIAddress: "w2.example:7402"}))

	n.ready("id-sales", "sales")
	n.must("id-sales", pair.Announce{Member: member("alpha")})
	n.must("id-sales", pair.Announce{Member: member("beta")})
	n.must("id-sales", pair.Arm{Host: "alpha"})
	n.must("id-sales", pair.Promote{To: "beta", Procedure: "p1", Cause: "alpha is silent"})
	n.must("id-sales", pair.Expose{Host: "beta", Cause: "alpha is lost"})
	n.must("id-sales", pair.EndProcedure{ID: "p1", Done: true})
	n.must("id-sales", pair.Note{Kind: pair.FactWouldFailOver, Cause: "beta is silent"})
	n.must("id-sales", pair.ReplaceMirror{Member: member("gamma"), By: "bob"})
	n.term++

	patient, _ := pair.ProfilePolicy("patient")
	n.ready("id-stock", "stock")
	n.must("id-stock", pair.SetPolicy{Policy: patient, By: "ann"})
	n.must("id-stock", pair.SetPolicy{Policy: pair.DefaultPolicy(), By: "ann"})
	n.must("id-stock", pair.LowerLongest{To: pair.DefaultPolicy().Lease})
	n.must("id-stock", pair.SetMode{Mode: pair.ModeManual, Pause: pair.Pause{By: "ann", Reason: "patching"}})
	n.must("id-stock", pair.StartProcedure{Procedure: pair.Procedure{
		ID: "p2", Kind: pair.KindSwitchover, Step: pair.StepRelease, Epoch: 1, Target: "beta",
		Timeout: 30 * time.Second, By: "ann", Reason: "patching", Started: 1_700_000_000_500,
	}})
	n.must("id-stock", pair.StepProcedure{ID: "p2", Step: pair.StepPromote, Timeout: time.Minute, Cause: "released"})
	n.must("id-stock", pair.Reinstate{Cause: "beta would not start"})
	n.must("id-stock", pair.EndProcedure{ID: "p2", Reason: pair.ReasonAborted, Detail: "beta would not start"})

	n.must("id-old", create("old"))
	n.must("id-old", pair.Remove{Cause: "never used"})
	n.must("id-new", create("old"))

	n.put(EncodeRestore(1, 1_700_000_900_000))
	n.must("id-sales", pair.Adopt{Epoch: 9, Primary: "gamma", Cause: "both agents reported"})
	n.must("id-sales", pair.StartProcedure{Procedure: pair.Procedure{
		ID: "p3", Kind: pair.KindForced, Step: pair.StepFence, Epoch: 9, Target: "beta",
		Timeout: time.Minute, AcceptLoss: true, HostOff: "gamma", By: "bob", Reason: "fire", Started: 1,
	}})
	n.try("id-stock", pair.Arm{Host: "beta"})

	n.put(EncodeRaise(1))
	n.must("id-sales", pair.Note{Kind: pair.FactHookFailed, Cause: "hook notify on beta failed", Host: "beta"})
	n.put(EncodeDelivered(Cursor{Webhook: "pager", Sequence: 12}, Cursor{Webhook: "chat"}))
	n.put(EncodeDelivered(Cursor{Webhook: "pager", Sequence: 14}))
}

// wantPanic calls f, which must panic with all of these words.
func wantPanic(t *testing.T, f func(), words ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		said := fmt.Sprint(recover())
		for _, word := range words {
			if !bytes.Contains([]byte(said), []byte(word)) {
				t.Errorf("panic says %q, without %q", said, word)
			}
		}
	}()
	f()
}
