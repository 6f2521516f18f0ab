package ledger

import (
	"fmt"
	"io"
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

const benchPairs = 5000

func benchNode(b *testing.B) *node {
	n := newNode(b)
	for i := range benchPairs {
		n.ready(pair.ID(fmt.Sprintf("0198-%032d", i)), fmt.Sprintf("pair-%d", i*7919%benchPairs))
	}
	n.log = nil
	return n
}

// BenchmarkApply must stay below 20 µs: it holds up every other entry.
func BenchmarkApply(b *testing.B) {
	n := benchNode(b)
	i := 0
	for b.Loop() {
		id := pair.ID(fmt.Sprintf("0198-%032d", i%benchPairs))
		b.StopTimer()
		data := EncodeCommand(n.command(id, pair.Arm{Host: "alpha"}))
		n.index++
		b.StartTimer()
		if r := n.Apply(n.index, n.term, data).(Result); r.Refusal != nil {
			b.Fatal(r.Refusal)
		}
		i++
	}
}

func BenchmarkApplyWatched(b *testing.B) {
	n := benchNode(b)
	for range 50 {
		w := n.Watch(b.Context())
		go func() {
			for range w.Changes() {
			}
		}()
	}
	i := 0
	for b.Loop() {
		id := pair.ID(fmt.Sprintf("0198-%032d", i%benchPairs))
		n.index++
		data := EncodeCommand(n.command(id, pair.Arm{Host: "alpha"}))
		n.Apply(n.index, n.term, data)
		i++
	}
}

// BenchmarkApplyAfterSnapshot is the dearest case: the map of pairs is cloned first.
func BenchmarkApplyAfterSnapshot(b *testing.B) {
	n := benchNode(b)
	id := pair.ID(fmt.Sprintf("0198-%032d", 7))
	for b.Loop() {
		if _, err := n.Snapshot(); err != nil {
			b.Fatal(err)
		}
		n.index++
		n.Apply(n.index, n.term, EncodeCommand(n.command(id, pair.Arm{Host: "alpha"})))
	}
}

func BenchmarkEncode(b *testing.B) {
	c := pair.Command{Pair: "0198-x", Revision: 12, Term: 3, At: 1_700_000_000_000, Body: pair.Arm{Host: "alpha"}}
	for b.Loop() {
		EncodeCommand(c)
	}
}

func BenchmarkPairs(b *testing.B) {
	n := benchNode(b)
	for b.Loop() {
		n.Pairs()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	n := benchNode(b)
	for b.Loop() {
		write, _ := n.Snapshot()
		if err := write(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	snapshot := benchNode(b).image()
	for b.Loop() {
		restored(b, snapshot)
	}
}
