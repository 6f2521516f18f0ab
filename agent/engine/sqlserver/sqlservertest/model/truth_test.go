package model

import (
	"testing"
)

// TestTruthTable is the table of failures: what SQL Server does with a mirrored database when a part fails, and
// what it does afterwards. All start synchronized with full quorum. "Not detected" must not be detected here either.
func TestTruthTable(t *testing.T) {
	for _, row := range []struct {
		name string
		run  func(*world)
	}{
		{"1 witness lost", witnessLost},
		{"2 mirror lost", mirrorLost},
		{"3 principal lost", principalLost},
		{"4 principal lost, not synchronized", principalLostUnsynchronized},
		{"5 principal isolated", principalIsolated},
		{"6 partners cut", partnersCut},
		{"6, and then the principal lost", partnersCutThenPrincipal},
		{"7 mirror isolated", mirrorIsolated},
		{"8 principal and witness cut", principalWitnessCut},
		{"9 mirror and witness cut", mirrorWitnessCut},
		{"10 witness, then mirror lost", witnessThenMirror},
		{"11 witness, then principal lost", witnessThenPrincipal},
		{"12 both partners lost", bothPartners},
		{"13 principal and witness lost", principalAndWitness},
		{"14 failover, then the new principal lost", newPrincipalLost},
		{"15 principal hangs", principalHangs},
		{"16 log drive fails", logDriveFails},
		{"17 data drive fails", dataDriveFails},
		{"18 clients cut off", clientsCutOff},
		{"19 one of two databases fails", oneOfTwo},
		{"20 redo fails", redoFails},
		{"21 witness shared by two pairs", sharedWitness},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.run(mirrored(t, true))
		})
	}
}

func witnessLost(w *world) {
	w.w.Crash()
	w.until("witness gone", func() bool { return row(w.p).WitnessStateDesc == "DISCONNECTED" })
	w.write(w.p)
	w.synchronized()
	w.verb(w.p, Failover, "")
	w.untilIs(w.m, "principal SYNCHRONIZED")
	w.write(w.m)
	w.verb(w.m, Failover, "")
	w.w = restart(w.t, w.w)
	w.full()
	w.nothingLost(w.p)
}

func mirrorLost(w *world) {
	w.m.Crash()
	w.untilIs(w.p, "principal DISCONNECTED")
	w.write(w.p)
	w.m = restart(w.t, w.m)
	w.full()
	w.p.Crash()
	w.untilServes(w.m)
	w.nothingLost(w.m)
}

func principalLost(w *world) {
	stop := w.load(w.p, w.m)
	w.p.Crash()
	w.untilServes(w.m)
	w.write(w.m)
	stop()
	w.nothingLost(w.m)
	w.p = restart(w.t, w.p)
	w.untilIs(w.p, "mirror SYNCHRONIZED")
	w.untilIs(w.m, "principal SYNCHRONIZED")
	if row(w.p).RoleSequence != 2 || serves(w.p) {
		w.t.Fatalf("the old principal: %+v", row(w.p))
	}
	w.nothingLost(w.m)
}

func principalLostUnsynchronized(w *world) {
	w.verb(w.p, Suspend, "")
	w.write(w.p)
	w.p.Crash()
	w.stays("the mirror does not serve", func() bool { return !serves(w.m) })
	w.p = restart(w.t, w.p)
	w.untilServes(w.p)
	w.nothingLost(w.p)
	w.until("connected", func() bool { return is(w.p) == "principal SUSPENDED" && row(w.m).RoleSequence == 1 })
	w.until("resumed", func() bool { return w.p.AlterMirroring(w.t.Context(), testDB, Resume, "") == nil })
	w.full()
}

func principalIsolated(w *world) {
	stop := w.load(w.p, w.m)
	cut(w.p, w.m, true)
	cut(w.p, w.w, true)
	done := w.p.Done(testDB)
	w.untilError(w.p, 955)
	<-done
	w.untilServes(w.m)
	w.write(w.m)
	stop()
	cut(w.p, w.m, false)
	cut(w.p, w.w, false)
	w.untilIs(w.p, "mirror SYNCHRONIZED")
	w.nothingLost(w.m)
}

func partnersCut(w *world) {
	stop := w.load(w.p)
	cut(w.p, w.m, true)
	w.untilIs(w.p, "principal DISCONNECTED")
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.write(w.p)
	w.stays("no failover", func() bool { return serves(w.p) && !serves(w.m) })
	stop()
	cut(w.p, w.m, false)
	w.full()
	w.nothingLost(w.p)
	w.verb(w.p, Failover, "")
	w.nothingLost(w.m)
}

// partnersCutThenPrincipal loses a principal that the witness knows to be exposed: the mirror lacks commits.
func partnersCutThenPrincipal(w *world) {
	cut(w.p, w.m, true)
	w.untilIs(w.p, "principal DISCONNECTED")
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.write(w.p)
	w.p.Crash()
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.m.Knobs().Cut(w.p.EndpointAddress(), false, false)
	w.p = restart(w.t, w.p)
	w.full()
	w.nothingLost(w.p)
}

func mirrorIsolated(w *world) {
	cut(w.m, w.p, true)
	cut(w.m, w.w, true)
	w.untilIs(w.p, "principal DISCONNECTED")
	w.write(w.p)
	w.stays("P serves", func() bool { return serves(w.p) && !serves(w.m) })
	cut(w.m, w.p, false)
	cut(w.m, w.w, false)
	w.full()
	w.nothingLost(w.p)
}

func principalWitnessCut(w *world) {
	cut(w.p, w.w, true)
	w.until("witness gone", func() bool { return row(w.p).WitnessStateDesc == "DISCONNECTED" })
	w.write(w.p)
	w.synchronized()
	w.p.Crash()
	w.stays("no failover", func() bool { return !serves(w.m) })
	cut(w.p, w.w, false)
	w.w.Knobs().Cut(w.p.EndpointAddress(), false, false)
	w.p = restart(w.t, w.p)
	w.full()
	w.nothingLost(w.p)
}

func mirrorWitnessCut(w *world) {
	cut(w.m, w.w, true)
	w.until("witness gone", func() bool { return row(w.m).WitnessStateDesc == "DISCONNECTED" })
	w.write(w.p)
	w.synchronized()
	w.p.Crash()
	w.untilIs(w.m, "mirror DISCONNECTED")
	cut(w.m, w.w, false)
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.p = restart(w.t, w.p)
	w.full()
	w.nothingLost(w.p)
}

func witnessThenMirror(w *world) {
	w.w.Crash()
	w.until("witness gone", func() bool { return row(w.p).WitnessStateDesc == "DISCONNECTED" })
	w.m.Crash()
	w.untilError(w.p, 955)
	if err := w.p.AlterMirroring(w.t.Context(), testDB, WitnessOff, ""); err == nil {
		w.t.Fatal("SET WITNESS OFF without quorum was taken")
	}
	w.w = restart(w.t, w.w)
	w.untilServes(w.p)
	w.write(w.p)
	w.w.Crash()
	w.untilError(w.p, 955)
	w.m = restart(w.t, w.m)
	w.untilServes(w.p)
	w.write(w.p)
	w.nothingLost(w.p)
}

func witnessThenPrincipal(w *world) {
	w.w.Crash()
	w.until("witness gone", func() bool { return row(w.p).WitnessStateDesc == "DISCONNECTED" })
	w.write(w.p)
	w.p.Crash()
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.refuses(w.m, ForceService, 1431)
	w.verb(w.m, PartnerOff, "")
	if number(w.m.Access(testDB, true)) != 927 {
		w.t.Fatalf("after PARTNER OFF: %v", w.m.Access(testDB, true))
	}
	w.verb(w.m, Recover, "")
	w.write(w.m)
	w.nothingLost(w.m)
}

func bothPartners(w *world) {
	w.p.Crash()
	w.m.Crash()
	w.m = restart(w.t, w.m)
	w.until("M and W", func() bool { return row(w.m).WitnessStateDesc == "CONNECTED" })
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.m.Crash()
	w.p = restart(w.t, w.p)
	w.untilServes(w.p)
	w.write(w.p)
	w.nothingLost(w.p)
}

func principalAndWitness(w *world) {
	w.w.Crash()
	w.p.Crash()
	w.untilIs(w.m, "mirror DISCONNECTED")
	w.stays("no failover", func() bool { return !serves(w.m) })
	w.refuses(w.m, ForceService, 1431)
	w.p = restart(w.t, w.p)
	w.untilServes(w.p)
	w.nothingLost(w.p)
}

func newPrincipalLost(w *world) {
	w.p.Crash()
	w.untilServes(w.m)
	w.write(w.m)
	w.m.Crash()
	w.p = restart(w.t, w.p)
	w.until("A knows that B owns the role", func() bool { return row(w.p).RoleSequence == 2 })
	w.stays("A does not serve", func() bool { return !serves(w.p) })
	w.m = restart(w.t, w.m)
	w.untilServes(w.m)
	w.untilIs(w.p, "mirror SYNCHRONIZED")
	w.nothingLost(w.m)
}

func principalHangs(w *world) {
	stop := w.load(w.p, w.m)
	w.p.Knobs().Hang(true)
	w.until("M serves", func() bool { return serves(w.m) })
	if err := w.try(w.m, testLimit); err != nil {
		w.t.Fatal(err)
	}
	w.p.Knobs().Hang(false)
	w.untilIs(w.p, "mirror SYNCHRONIZED")
	stop()
	w.nothingLost(w.m)
}

func logDriveFails(w *world) {
	w.p.Knobs().Disk(testDB, Disk{LogBad: true})
	if err := w.try(w.p, testLimit); err == nil {
		w.t.Fatal("a commit without a log drive")
	}
	w.untilServes(w.m)
	w.write(w.m)
	w.nothingLost(w.m)
	w.p = restart(w.t, w.p)
	w.untilIs(w.p, "mirror SYNCHRONIZED")
}

func dataDriveFails(w *world) {
	w.p.Knobs().Disk(testDB, Disk{DataBad: true})
	if _, err := w.p.Select(testDB, "t"); err == nil {
		w.t.Fatal("a read from a bad drive")
	}
	w.stays("not detected", func() bool {
		return is(w.p) == "principal SYNCHRONIZED" && is(w.m) == "mirror SYNCHRONIZED"
	})
}

// clientsCutOff has nothing to cut in this package: clients call the instance itself. What can be shown is that the
// sessions' state is about the endpoint only: with no client at all it stays as it is.
func clientsCutOff(w *world) {
	w.stays("not detected", func() bool {
		return is(w.p) == "principal SYNCHRONIZED" && is(w.m) == "mirror SYNCHRONIZED"
	})
}

func oneOfTwo(w *world) {
	const second = "cps"
	check(w.t, w.p.CreateDatabase(second))
	for _, v := range []struct {
		on       *Instance
		verb     Verb
		argument string
	}{
		{w.m, SetPartner, w.p.EndpointAddress()}, {w.p, SetPartner, w.m.EndpointAddress()}, {w.p, Timeout, "5"},
	} {
		check(w.t, v.on.AlterMirroring(w.t.Context(), second, v.verb, v.argument))
	}
	w.p.Knobs().Disk(testDB, Disk{LogBad: true})
	_ = w.try(w.p, testLimit)
	w.untilServes(w.m)
	w.stays("the other database does not move", func() bool {
		return w.p.Access(second, true) == nil && w.m.Access(second, true) != nil
	})
}

func redoFails(w *world) {
	w.m.Knobs().FailRedo(testDB, true)
	w.write(w.p)
	w.untilIs(w.p, "principal SUSPENDED")
	w.untilIs(w.m, "mirror SUSPENDED")
	w.write(w.p)
	w.m.Knobs().FailRedo(testDB, false)
	w.m = restart(w.t, w.m)
	w.until("still suspended", func() bool { return row(w.p).WitnessStateDesc == "CONNECTED" })
	w.untilIs(w.m, "mirror SUSPENDED")
	w.until("resumed", func() bool { return w.p.AlterMirroring(w.t.Context(), testDB, Resume, "") == nil })
	w.full()
	w.nothingLost(w.p)
}

// sharedWitness is row 1 for the first pair while a second one has the same witness; then row 10 for one of them.
func sharedWitness(w *world) {
	other := mirrored(w.t, false)
	other.w = w.w
	other.verb(other.p, SetWitness, "TCP://"+w.w.EndpointAddress())
	other.full()
	w.w.Crash()
	for _, pair := range []*world{w, other} {
		pair.until("witness gone", func() bool { return row(pair.p).WitnessStateDesc == "DISCONNECTED" })
		pair.synchronized()
		pair.write(pair.p)
	}
	w.m.Crash()
	w.untilError(w.p, 955)
	other.p.Crash()
	other.stays("no failover", func() bool { return !serves(other.m) })
}
