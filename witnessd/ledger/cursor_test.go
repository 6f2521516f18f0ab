package ledger

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func at(l *Ledger, webhook string) string {
	sequence, begun := l.Delivered(webhook)
	return fmt.Sprint(sequence, begun)
}

// TestCursors: a cursor moves forward only and not beyond the history, and a snapshot has it.
func TestCursors(t *testing.T) {
	n := newNode(t)
	n.ready("id-sales", "sales")
	n.must("id-sales", pair.Arm{Host: "alpha"})
	n.must("id-sales", pair.Expose{Host: "alpha"})
	for _, tt := range []struct {
		say  Cursor
		want string
	}{
		{Cursor{"pager", 0}, "0 true"},
		{Cursor{"pager", 3}, "3 true"},
		{Cursor{"pager", 2}, "3 true"},
		{Cursor{"pager", 99}, "3 true"},
		{Cursor{"chat", 4}, "4 true"},
		{Cursor{"chat", 4}, "4 true"},
		{Cursor{"late", 99}, "0 false"},
		{Cursor{"", 1}, "0 false"},
	} {
		before := n.image()
		n.put(EncodeDelivered(tt.say))
		if got := at(n.Ledger, tt.say.Webhook); got != tt.want {
			t.Errorf("%v: at %s, want %s", tt.say, got, tt.want)
		}
		restored(t, before) // an older snapshot stays what it was
	}
	if got := at(restored(t, n.image()), "pager"); got != "3 true" {
		t.Errorf("the snapshot has %s", got)
	}
	if n.LastSequence() != 4 {
		t.Errorf("last sequence %d, want 4", n.LastSequence())
	}
}

// TestSnapshotBesideCursors: a snapshot that is being written does not see what comes after it.
func TestSnapshotBesideCursors(t *testing.T) {
	n := newNode(t)
	n.ready("id-sales", "sales")
	n.put(EncodeDelivered(Cursor{"pager", 1}))
	before := n.image()
	l := restored(t, before)
	write, err := l.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	l.Apply(n.index+1, n.term, EncodeDelivered(Cursor{"pager", 2}))
	var b bytes.Buffer
	if err := write(&b); err != nil || !bytes.Equal(b.Bytes(), before) {
		t.Errorf("%v: the snapshot has moved with the state", err)
	}
}

// TestCursorsAreBounded: the one that is farthest behind gives way.
func TestCursorsAreBounded(t *testing.T) {
	n := newNode(t)
	n.ready("id-sales", "sales")
	for i := range maxCursors {
		n.put(EncodeDelivered(Cursor{fmt.Sprintf("w%03d", i), uint64(min(i, 1))}))
	}
	n.put(EncodeDelivered(Cursor{"new", 2}))
	if len(n.state.cursors) != maxCursors || at(n.Ledger, "w000") != "0 false" || at(n.Ledger, "new") != "2 true" {
		t.Errorf("%d cursors, w000 at %s, new at %s", len(n.state.cursors), at(n.Ledger, "w000"), at(n.Ledger, "new"))
	}
	restored(t, n.image())
}

// TestLevel: it never falls, a snapshot has it, and a level that this release does not know stops it.
func TestLevel(t *testing.T) {
	n := newNode(t)
	if n.Level() != 0 {
		t.Errorf("a new log is of level %d", n.Level())
	}
	n.put(EncodeRaise(1))
	n.put(EncodeRaise(0))
	if got := restored(t, n.image()).Level(); n.Level() != 1 || got != 1 {
		t.Errorf("level %d, in the snapshot %d, want 1", n.Level(), got)
	}
	wantPanic(t, func() { n.put(EncodeRaise(Level + 1)) }, "level 2", upgrade)
	n.state.level = Level + 1
	if err := New().Restore(bytes.NewReader(n.image())); err == nil {
		t.Error("a snapshot of a level that is not known was read")
	}
}
