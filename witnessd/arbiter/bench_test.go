package arbiter_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// counter is an outlet that only counts.
type counter struct{ answers, nudges *atomic.Int64 }

func (c counter) Answer(arbiter.Answer) { c.answers.Add(1) }
func (c counter) Nudge()                { c.nudges.Add(1) }
func (c counter) End(*pair.Refusal)     {}

// BenchmarkHeartbeat is one heartbeat with its answer, in a witness of 2,000 armed pairs on 4,000 hosts.
// Multiply by 8,000 for what these send in a second.
func BenchmarkHeartbeat(b *testing.B) {
	const pairs = 2000
	l := ledger.New()
	log := newFakeLog(l)
	defer log.stop()
	term := log.elect()
	log.delay = 0
	for i := range pairs {
		id := pair.ID(fmt.Sprintf("%08d", i))
		propose(b, log, term, pair.Command{Pair: id, Body: spec(fmt.Sprintf("pair-%d", i), hostName(i, 0), hostName(i, 1))})
		propose(b, log, term, pair.Command{Pair: id, Revision: 1, Body: pair.Begin{}})
		propose(b, log, term, pair.Command{Pair: id, Revision: 2, Body: pair.Arm{Host: hostName(i, 0)}})
	}
	start := time.Now()
	a := arbiter.New(arbiter.Options{
		Log: log, Ledger: l, Clock: func() pair.Instant { return pair.Instant(time.Since(start)) },
		Wall: func() int64 { return 0 }, NewID: func() pair.ID { return "" },
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- a.Serve(ctx, pair.Term(term)) }()
	o, changed := a.Office()
	for ; o == nil; o, changed = a.Office() {
		<-changed
	}
	out := counter{new(atomic.Int64), new(atomic.Int64)}
	var seats [pairs * 2]*arbiter.Seat
	var beats [pairs * 2]arbiter.Heartbeat
	for i := range seats {
		host := hostName(i/2, i%2)
		seat, err := o.Join(ctx, arbiter.Agent{Host: host, ID: string(host), Start: "1"}, out)
		if err != nil {
			b.Fatal(err)
		}
		seats[i] = seat
		said := pair.Report{FileKnown: true, Epoch: 1, Revision: 3, AskLease: i%2 == 0, Serving: i%2 == 0,
			Member: pair.Member{Host: host, Instance: "db"},
			Engine: pair.Engine{Running: true, SystemID: "7", Promotable: true, Following: true}}
		beats[i] = arbiter.Heartbeat{TermHeard: 1,
			Reports: []arbiter.Report{{Pair: pair.ID(fmt.Sprintf("%08d", i/2)), Said: said}}}
	}
	b.ReportAllocs()
	sent := int64(0)
	for i := 0; b.Loop(); i++ {
		n := i % len(seats)
		beats[n].Sequence++
		for !seats[n].Heartbeat(beats[n]) {
			time.Sleep(time.Millisecond)
		}
		if sent++; sent%4000 == 0 {
			for out.answers.Load() < sent {
				log.exchange()
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

func hostName(i, half int) pair.HostID { return pair.HostID(fmt.Sprintf("host-%d-%d", i, half)) }

func propose(b *testing.B, log *fakeLog, term uint64, c pair.Command) {
	b.Helper()
	c.Term = pair.Term(term)
	result, err := log.Propose(b.Context(), ledger.EncodeCommand(c))
	if err != nil || result.(ledger.Result).Refusal != nil {
		b.Fatal(err, result.(ledger.Result).Refusal)
	}
}
