package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Time in these tests: a ping every 20 ms, and a second of PARTNER TIMEOUT takes 60 ms. With the least time-out, 5, a
// partner that says nothing is lost after 320 ms.
const (
	testPing    = 20 * time.Millisecond
	testSecond  = 60 * time.Millisecond
	testSilence = 5*testSecond + testPing
	testLimit   = 20 * time.Second
)

// world is two partners and a witness, with one mirrored database, and what was acknowledged to its clients.
type world struct {
	t       *testing.T
	p, m, w *Instance
	acked   []string
	written int
}

const testDB = "rtc"

func start(t *testing.T, name, role string) *Instance {
	t.Helper()
	return reopen(t, Options{Name: name, Dir: t.TempDir(), Endpoint: "127.0.0.1:0", EndpointRole: role})
}

func reopen(t *testing.T, o Options) *Instance {
	t.Helper()
	o.Ping, o.Second = testPing, testSecond
	i, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Crash)
	return i
}

// restart starts a crashed instance on its directory and port.
func restart(t *testing.T, i *Instance) *Instance {
	t.Helper()
	i.Crash()
	o := i.options
	o.Endpoint = i.bound
	return reopen(t, o)
}

// mirrored makes a synchronized pair, with a witness or without.
func mirrored(t *testing.T, witness bool) *world {
	t.Helper()
	w := &world{t: t, p: start(t, "P", "PARTNER"), m: start(t, "M", "PARTNER")}
	check(t, w.p.CreateDatabase(testDB))
	check(t, w.p.CreateTable(t.Context(), testDB, "t"))
	w.write(w.p)
	w.verb(w.m, SetPartner, "TCP://"+w.p.EndpointAddress())
	w.verb(w.p, SetPartner, "TCP://"+w.m.EndpointAddress())
	w.verb(w.p, Timeout, "5")
	w.synchronized()
	if witness {
		w.w = start(t, "W", "WITNESS")
		w.verb(w.p, SetWitness, "TCP://"+w.w.EndpointAddress())
		w.full()
	}
	w.write(w.p)
	return w
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) verb(i *Instance, v Verb, argument string) {
	w.t.Helper()
	if err := i.AlterMirroring(w.t.Context(), testDB, v, argument); err != nil {
		w.t.Fatalf("%s on %s: %v", v, i.Name(), err)
	}
}

// row is the row of sys.database_mirroring on an instance.
func row(i *Instance) Mirroring {
	for _, r := range i.Mirroring() {
		if r.Database == testDB {
			return r
		}
	}
	return Mirroring{}
}

// is says what a partner shows: "principal SYNCHRONIZED", "mirror DISCONNECTED"; "" for an instance that has ended.
func is(i *Instance) string {
	r := row(i)
	if r.GUID == "" {
		return ""
	}
	return map[int8]string{1: "principal ", 2: "mirror "}[r.Role] + r.Desc
}

func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	begun := time.Now()
	for !condition() {
		if time.Since(begun) > testLimit {
			w.t.Fatalf("never: %s; P %+v access %v; M %+v access %v", what, row(w.p), w.p.Access(testDB, true), row(w.m),
				w.m.Access(testDB, true))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w *world) untilIs(i *Instance, want string) {
	w.t.Helper()
	w.until(i.Name()+" is "+want, func() bool { return is(i) == want })
}

// synchronized waits for P as principal and M as mirror, synchronized.
func (w *world) synchronized() {
	w.t.Helper()
	w.untilIs(w.p, "principal SYNCHRONIZED")
	w.untilIs(w.m, "mirror SYNCHRONIZED")
}

// full waits for full quorum, with the mirror told of it.
func (w *world) full() {
	w.t.Helper()
	w.synchronized()
	w.until("full quorum", func() bool {
		told := false
		w.m.run(func() { told = w.m.session(testDB).witnessed })
		return told && row(w.p).WitnessStateDesc == "CONNECTED" && row(w.m).WitnessStateDesc == "CONNECTED"
	})
}

// write commits a row and notes it as acknowledged.
func (w *world) write(i *Instance) {
	w.t.Helper()
	if err := w.try(i, testLimit); err != nil {
		w.t.Fatalf("a commit on %s: %v", i.Name(), err)
	}
}

// try commits a row, and notes it if it is acknowledged in time.
func (w *world) try(i *Instance, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	w.written++
	value := fmt.Sprintf("row %d", w.written)
	err := i.Commit(ctx, testDB, []Row{{"t", value}})
	if err == nil {
		w.acked = append(w.acked, value)
	}
	return err
}

// serves says that an instance lets clients write.
func serves(i *Instance) bool { return i.Access(testDB, true) == nil }

func number(err *Error) int32 {
	if err == nil {
		return 0
	}
	return err.Number
}

func (w *world) untilServes(i *Instance) {
	w.t.Helper()
	w.until(i.Name()+" serves", func() bool { return serves(i) })
}

// untilError waits until an instance refuses clients with an error.
func (w *world) untilError(i *Instance, want int32) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s gives %d", i.Name(), want), func() bool { return number(i.Access(testDB, true)) == want })
}

// stays checks that something holds for a while that is longer than every time-out.
func (w *world) stays(what string, condition func() bool) {
	w.t.Helper()
	for begun := time.Now(); time.Since(begun) < 2*testSilence; time.Sleep(5 * time.Millisecond) {
		if !condition() {
			w.t.Fatalf("not any more: %s; P %s %v, M %s %v", what, is(w.p), w.p.Access(testDB, true), is(w.m),
				w.m.Access(testDB, true))
		}
	}
}

// lost are the acknowledged rows that an instance does not have.
func (w *world) lost(i *Instance) []string {
	w.t.Helper()
	values, err := i.Select(testDB, "t")
	check(w.t, err)
	var lost []string
	for _, value := range w.acked {
		if !slices.Contains(values, value) {
			lost = append(lost, value)
		}
	}
	return lost
}

// nothingLost checks that an instance has every acknowledged row.
func (w *world) nothingLost(i *Instance) {
	w.t.Helper()
	if lost := w.lost(i); len(lost) > 0 {
		w.t.Fatalf("acknowledged rows are missing on %s: %v", i.Name(), lost)
	}
}

// cut silences the link between two instances in both directions, or mends it.
func cut(a, b *Instance, yes bool) {
	a.Knobs().Cut(b.EndpointAddress(), yes, yes)
	b.Knobs().Cut(a.EndpointAddress(), yes, yes)
}

// load writes to whoever of the two serves until it is told to stop; it notes what is acknowledged.
func (w *world) load(of ...*Instance) (stop func()) {
	end, done := make(chan struct{}), sync.WaitGroup{}
	results := make([][]string, len(of))
	for n, i := range of {
		done.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-end:
					return
				default:
				}
				value := fmt.Sprintf("load %d %d", n, k)
				ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
				if i.Commit(ctx, testDB, []Row{{"t", value}}) == nil {
					results[n] = append(results[n], value)
				}
				time.Sleep(time.Millisecond)
				cancel()
			}
		})
	}
	return func() {
		close(end)
		done.Wait()
		w.acked = append(w.acked, slices.Concat(results...)...)
	}
}

// refuses checks that a command fails with an error.
func (w *world) refuses(i *Instance, v Verb, want int32) {
	w.t.Helper()
	err := i.AlterMirroring(w.t.Context(), testDB, v, "")
	var e *Error
	if !errors.As(err, &e) || e.Number != want {
		w.t.Fatalf("%s on %s: got %v, want %d", v, i.Name(), err, want)
	}
}
