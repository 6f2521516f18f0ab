package model

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// These are the paragraphs below the table of failures: sessions without witness, forced service, SAFETY OFF, and the
// hole at a restart.

func TestWithoutWitness(t *testing.T) {
	for _, row := range []struct {
		name string
		run  func(*world)
	}{
		{"mirror lost", func(w *world) {
			w.m.Crash()
			w.untilIs(w.p, "principal DISCONNECTED")
			w.write(w.p)
			w.m = restart(w.t, w.m)
			w.synchronized()
		}},
		{"principal lost: forced service loses nothing that was synchronized", func(w *world) {
			stop := w.load(w.p)
			w.p.Crash()
			stop()
			w.untilIs(w.m, "mirror DISCONNECTED")
			w.stays("nobody serves", func() bool { return !serves(w.m) })
			w.verb(w.m, ForceService, "")
			w.untilIs(w.m, "principal SUSPENDED")
			w.nothingLost(w.m)
			w.write(w.m)
		}},
		{"link cut: a commit waits for the time-out, then the principal is exposed", func(w *world) {
			cut(w.p, w.m, true)
			begun := time.Now()
			w.write(w.p)
			if took := time.Since(begun); took < 4*testSecond {
				w.t.Fatalf("the commit waited only %v", took)
			}
			w.stays("the mirror waits", func() bool { return serves(w.p) && !serves(w.m) })
			cut(w.p, w.m, false)
			w.synchronized()
		}},
		{"link reset: exposed at once", func(w *world) {
			w.p.Knobs().Reset(w.m.EndpointAddress())
			w.write(w.p)
			w.synchronized()
			w.write(w.p)
		}},
		{"endpoint stopped on the mirror: forced service while the principal lives", func(w *world) {
			check(w.t, w.m.AlterEndpoint(w.t.Context(), false))
			w.untilIs(w.m, "mirror DISCONNECTED")
			w.verb(w.m, ForceService, "")
			check(w.t, w.m.AlterEndpoint(w.t.Context(), true))
			w.untilIs(w.p, "mirror SUSPENDED")
			w.nothingLost(w.m)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.run(mirrored(t, false))
		})
	}
}

// TestForcedServiceLosesExactly is the split: two principals, and what RESUME discards.
func TestForcedServiceLosesExactly(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	cut(w.p, w.m, true)
	w.untilIs(w.p, "principal DISCONNECTED")
	w.untilIs(w.m, "mirror DISCONNECTED")
	before := len(w.acked)
	w.write(w.p)
	w.write(w.p)
	want := slices.Clone(w.acked[before:])
	w.verb(w.m, ForceService, "")
	w.write(w.m)
	if !serves(w.p) || !serves(w.m) {
		t.Fatal("without a witness both serve after a forced service")
	}
	done := w.p.Done(testDB)
	cut(w.p, w.m, false)
	<-done
	w.untilIs(w.p, "mirror SUSPENDED")
	w.untilIs(w.m, "principal SUSPENDED")
	end := row(w.p).EndOfLog
	w.write(w.m)
	if now := row(w.p); now.EndOfLog != end || now.RoleSequence != 2 {
		t.Fatalf("before RESUME the old principal keeps what it has: %+v", now)
	}
	w.refuses(w.p, Resume, 1470)
	w.verb(w.m, Resume, "")
	w.untilIs(w.m, "principal SYNCHRONIZED")
	w.untilIs(w.p, "mirror SYNCHRONIZED")
	w.verb(w.m, Failover, "")
	w.untilServes(w.p)
	for _, i := range []*Instance{w.p} {
		if lost := w.lost(i); !slices.Equal(lost, want) {
			t.Fatalf("lost on %s: %v, want %v", i.Name(), lost, want)
		}
	}
}

// TestSalvage takes mirroring off instead of resuming: the old principal keeps what the new one never had.
func TestSalvage(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	cut(w.p, w.m, true)
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.untilIs(w.p, "principal DISCONNECTED")
	w.write(w.p)
	w.verb(w.m, ForceService, "")
	cut(w.p, w.m, false)
	w.untilIs(w.p, "mirror SUSPENDED")
	w.verb(w.p, PartnerOff, "")
	w.verb(w.p, Recover, "")
	w.nothingLost(w.p)
	w.until("removed on the other side too", func() bool { return row(w.m).GUID == "" })
	w.write(w.m)
}

// TestRestartHole is an old principal without witness that is started again after a forced service: it serves until
// it reaches its partner.
func TestRestartHole(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	w.p.Crash()
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.verb(w.m, ForceService, "")
	o := w.p.options
	o.Endpoint, o.Quiet = w.p.bound, 4*testSilence
	w.p = reopen(t, o)
	if !serves(w.p) || !serves(w.m) {
		t.Fatal("the old principal must serve before it has looked")
	}
	w.write(w.p)
	w.untilIs(w.p, "mirror SUSPENDED")
}

func TestSafetyOff(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	w.verb(w.p, SafetyOff, "")
	w.refuses(w.p, Failover, 1477)
	cut(w.p, w.m, true)
	begun := time.Now()
	w.write(w.p)
	if took := time.Since(begun); took > testSilence/2 {
		t.Fatalf("with SAFETY OFF a commit waited %v", took)
	}
	cut(w.p, w.m, false)
	w.verb(w.p, SafetyFull, "")
	w.synchronized()
	w.p.Crash()
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.verb(w.m, ForceService, "")
	w.nothingLost(w.m)
}

// TestSafetyOffNeverFailsOver has a witness, which may not promote a mirror that may lack commits.
func TestSafetyOffNeverFailsOver(t *testing.T) {
	t.Parallel()
	w := mirrored(t, true)
	w.verb(w.p, SafetyOff, "")
	w.until("known", func() bool { return row(w.m).SafetyDesc == "OFF" })
	w.p.Crash()
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.verb(w.m, ForceService, "")
	w.untilIs(w.m, "principal SUSPENDED")
}

func TestAcknowledgedThenFailed(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	w.p.Knobs().FailNext(testDB, Failover, nil)
	w.verb(w.p, Failover, "")
	w.stays("nothing happens", func() bool { return is(w.p) == "principal SYNCHRONIZED" })
	w.p.Knobs().FailNext(testDB, Failover, fail(1404, "busy"))
	w.refuses(w.p, Failover, 1404)
	w.verb(w.p, Failover, "")
	w.untilServes(w.m)
}

// TestFailoverWaitsForRedo shows PENDING_FAILOVER while the mirror has a redo queue.
func TestFailoverWaitsForRedo(t *testing.T) {
	t.Parallel()
	w := mirrored(t, true)
	w.m.Knobs().StopRedo(testDB, true)
	w.write(w.p)
	if r := row(w.m); r.RedoQueueKB == 0 || r.Desc != "SYNCHRONIZED" {
		t.Fatalf("hardened is enough for SYNCHRONIZED: %+v", r)
	}
	w.p.Knobs().Delay(w.m.EndpointAddress(), time.Millisecond)
	result := make(chan error, 1)
	go func() { result <- w.p.AlterMirroring(t.Context(), testDB, Failover, "") }()
	w.untilIs(w.p, "principal PENDING_FAILOVER")
	w.untilError(w.p, 952)
	w.m.Knobs().StopRedo(testDB, false)
	check(t, <-result)
	w.untilServes(w.m)
	w.nothingLost(w.m)
}

// TestFailoverBrokenOff loses the mirror in the middle: the principal serves nobody until it hears from it.
func TestFailoverBrokenOff(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	w.m.Knobs().StopRedo(testDB, true)
	w.write(w.p)
	result := make(chan error, 1)
	go func() { result <- w.p.AlterMirroring(t.Context(), testDB, Failover, "") }()
	w.untilIs(w.p, "principal PENDING_FAILOVER")
	w.m.Crash()
	var e *Error
	if err := <-result; !errors.As(err, &e) || e.Number != 1421 {
		t.Fatalf("SET PARTNER FAILOVER whose partner is gone: %v", err)
	}
	w.stays("nobody serves", func() bool { return !serves(w.p) })
	w.m = restart(t, w.m)
	w.synchronized()
	w.write(w.p)
}

func TestSetWitness(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	partner := start(t, "X", "PARTNER")
	check(t, w.p.CreateDatabase("other"))
	refused := func(what, witness string, want int32) {
		t.Helper()
		err := w.p.AlterMirroring(t.Context(), testDB, SetWitness, witness)
		var e *Error
		if !errors.As(err, &e) || e.Number != want {
			t.Fatalf("%s: got %v, want %d", what, err, want)
		}
	}
	refused("an endpoint for partners only", partner.EndpointAddress(), 1427)
	refused("nobody there", "127.0.0.1:1", 1456)
	first, second := start(t, "W1", "WITNESS"), start(t, "W2", "ALL")
	first.Knobs().Cut(w.m.EndpointAddress(), true, true)
	refused("the mirror does not reach it", first.EndpointAddress(), 1456)
	first.Knobs().Cut(w.m.EndpointAddress(), false, false)
	w.verb(w.p, SetWitness, first.EndpointAddress())
	w.w = first
	w.full()
	w.verb(w.p, SetWitness, second.EndpointAddress())
	w.w = second
	w.full()
	w.until("the old witness has forgotten", func() bool { return len(first.Witnessed()) == 0 })
	if rows := second.Witnessed(); len(rows) != 1 || rows[0].PartnerSyncStateDesc != "SYNCHRONIZED" {
		t.Fatalf("sys.database_mirroring_witnesses: %+v", rows)
	}
	w.m.Crash()
	w.untilIs(w.p, "principal DISCONNECTED")
	refused("the mirror is away", first.EndpointAddress(), 1426)
	w.verb(w.p, WitnessOff, "")
	second.Crash()
	w.write(w.p)
	w.m = restart(t, w.m)
	w.synchronized()
}

// TestCommitOutcomeOpen gives up waiting; the row may be there later, and is.
func TestCommitOutcomeOpen(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	cut(w.p, w.m, true)
	if err := w.try(w.p, testSecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a commit while the mirror says nothing: %v", err)
	}
	cut(w.p, w.m, false)
	w.write(w.p)
	values, err := w.p.Select(testDB, "t")
	if err != nil || len(values) != w.written {
		t.Fatalf("rows: %v %v", values, err)
	}
}
