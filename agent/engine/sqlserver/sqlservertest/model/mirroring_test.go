package model

import (
	"errors"
	"testing"
)

func TestSetUpAndManualFailover(t *testing.T) {
	for _, witness := range []bool{false, true} {
		w := mirrored(t, witness)
		stop := w.load(w.p, w.m)
		w.verb(w.p, Failover, "")
		w.untilIs(w.m, "principal SYNCHRONIZED")
		w.untilIs(w.p, "mirror SYNCHRONIZED")
		stop()
		w.nothingLost(w.m)
		if r := row(w.p); r.RoleSequence != 2 || number(w.p.Access(testDB, false)) != 954 {
			t.Fatalf("the old principal: %+v", r)
		}
		w.write(w.m)
		w.verb(w.m, Failover, "")
		w.synchronized()
		w.nothingLost(w.p)
	}
}

func TestErrorsOfCommands(t *testing.T) {
	t.Parallel()
	w := mirrored(t, false)
	check(t, w.p.CreateDatabase("alone"))
	verbs := []struct {
		on       *Instance
		db       string
		verb     Verb
		argument string
		want     int32
	}{
		{w.m, testDB, Failover, "", 1470},
		{w.p, testDB, ForceService, "", 1455},
		{w.m, testDB, ForceService, "", 1455},
		{w.p, "alone", Failover, "", 1416},
		{w.p, testDB, Timeout, "40000", 1476},
		{w.m, testDB, SafetyOff, "", 1470},
		{w.m, testDB, Resume, "", 1470},
		{w.p, testDB, WitnessOff, "", 1439},
		{w.p, testDB, SetWitness, w.m.EndpointAddress(), 1429},
		{w.p, testDB, Recover, "", 3104},
		{w.p, testDB, SetPartner, w.m.EndpointAddress(), 1468},
	}
	for _, v := range verbs {
		err := v.on.AlterMirroring(t.Context(), v.db, v.verb, v.argument)
		var e *Error
		if !errors.As(err, &e) || e.Number != v.want {
			t.Errorf("%s of %s on %s: got %v, want %d", v.verb, v.db, v.on.Name(), err, v.want)
		}
	}
}
