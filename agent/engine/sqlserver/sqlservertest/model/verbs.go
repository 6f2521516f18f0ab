package model

import (
	"context"
	"strconv"
	"time"
)

// This file is ALTER DATABASE ... SET PARTNER and SET WITNESS on sessions that exist; setup.go makes and ends them.

// AlterMirroring runs a command on a database's mirroring session. The argument is the address of SetPartner and
// SetWitness, and the seconds of Timeout. A command may return nil and have no effect; read back.
func (i *Instance) AlterMirroring(ctx context.Context, db string, v Verb, argument string) error {
	if p, ok := i.knobs.plan(db, v); ok {
		if p.error != nil {
			return p.error
		}
		return nil
	}
	switch v {
	case SetPartner:
		return i.setPartner(ctx, db, address(argument))
	case PartnerOff:
		return i.partnerOff(db)
	case Recover:
		return i.recover(db)
	case Failover:
		return i.failover(ctx, db)
	case ForceService:
		return i.forceService(ctx, db)
	case Suspend:
		return i.suspendBy(ctx, db)
	case Resume:
		return i.resume(db)
	case SafetyFull, SafetyOff:
		return i.safety(db, v)
	case Timeout:
		return i.timeout(db, argument)
	case SetWitness:
		return i.setWitness(ctx, db, address(argument))
	case WitnessOff:
		return i.witnessOff(ctx, db)
	default:
		return fail(102, "Incorrect syntax near '%s'.", v)
	}
}

// patience is how long a command waits for other instances.
func (i *Instance) patience() time.Duration {
	return max(2*time.Second, defaultTimeout*i.options.Second)
}

// mirrored finds the session that a command is for.
func (i *Instance) mirrored(db string) (*session, error) {
	if i.database(db) == nil {
		return nil, fail(5011, "User does not have permission to alter database '%s', the database does not exist, or "+
			"the database is not in a state that allows access checks.", db)
	}
	s := i.session(db)
	if s == nil || s.GUID == "" {
		return nil, errNotMirrored(db)
	}
	return s, nil
}

func (i *Instance) principal(db string) (*session, error) {
	s, err := i.mirrored(db)
	if err == nil && s.Role != rolePrincipal {
		err = errNotPrincipal(db)
	}
	return s, err
}

func (i *Instance) failover(ctx context.Context, db string) error {
	begun := false
	return i.await(ctx, i.patience(), errTimedOut(db), func() (bool, error) {
		if begun {
			s, err := i.mirrored(db)
			switch {
			case err != nil:
				return true, err
			case s.Role == roleMirror:
				return true, nil
			case !s.connected:
				return true, errTimedOut(db)
			}
			return !s.held, nil
		}
		s, err := i.principal(db)
		switch {
		case err != nil:
			return true, err
		case s.Safety != safetyFull:
			return true, fail(1477, "The database mirroring safety level must be FULL to manually failover database "+
				"\"%s\". Set safety level to FULL and retry.", db)
		case !s.connected:
			return true, errPartnerAway(db)
		case s.held:
			return true, fail(1404, "The command failed because the database mirror is busy. Reissue the command later.")
		case !s.synced:
			return true, fail(1422, "The mirror server instance is not caught up to the recent changes to database "+
				"\"%s\". Unable to fail over.", db)
		}
		begun, s.handing, s.held, s.waiting = true, true, true, nil
		s.db.endSessions()
		i.tell(s, message{Kind: kindFailover, LSN: s.db.end()})
		return false, nil
	})
}

func (i *Instance) forceService(ctx context.Context, db string) error {
	begun := false
	return i.await(ctx, i.patience(), errTimedOut(db), func() (bool, error) {
		s, err := i.mirrored(db)
		if err != nil {
			return true, err
		}
		if begun {
			if s.refused {
				s.refused = false
				return true, errForce(db)
			}
			return s.Role == rolePrincipal, nil
		}
		_, failing := i.knobs.redoOf(db)
		switch {
		case s.Role != roleMirror || s.connected || s.asking || s.taking != nil:
			return true, errForce(db)
		case failing:
			return true, fail(1406, "Unable to force service safely. Remove database mirroring and recover database "+
				"\"%s\" to gain access.", db)
		case s.Witness != "" && !s.watching:
			return true, errNobody(db)
		}
		begun = true
		if s.Witness == "" {
			s.taking = &takeover{seq: s.Seq + 1, forced: true}
			i.promote(s)
			return s.Role == rolePrincipal, nil
		}
		s.asking, s.forcing, s.refused = true, true, false
		i.send(s.Witness, message{
			Kind: kindTake, Session: s.GUID, Database: s.Database, Seq: s.Seq + 1, Force: true,
		})
		return false, nil
	})
}

func errForce(db string) *Error {
	return fail(1455, "The database mirroring service cannot be forced for database \"%s\" because the database is "+
		"not in the correct state to become the principal database.", db)
}

func (i *Instance) suspendBy(ctx context.Context, db string) error {
	asked := false
	return i.await(ctx, i.patience(), errTimedOut(db), func() (bool, error) {
		s, err := i.mirrored(db)
		switch {
		case err != nil:
			return true, err
		case s.Suspended:
			return true, nil
		case s.Role == rolePrincipal:
			i.suspend(s)
		case !s.connected:
			s.Suspended, s.Asks = true, true
			i.persist()
		case !asked:
			asked = true
			i.tell(s, message{Kind: kindSuspend})
		}
		return s.Suspended, nil
	})
}

func (i *Instance) resume(db string) error {
	return i.do(func() error {
		s, err := i.principal(db)
		switch {
		case err != nil:
			return err
		case !s.connected:
			return errPartnerAway(db)
		case !s.Suspended:
			return nil
		}
		s.Suspended = false
		i.persist()
		s.attached = s.number + 1 // what the mirror says from before does not count
		i.tell(s, message{Kind: kindResume})
		return nil
	})
}

func (i *Instance) safety(db string, v Verb) error {
	return i.do(func() error {
		s, err := i.principal(db)
		if err != nil {
			return err
		}
		level := safetyFull
		if v == SafetyOff {
			level = safetyOff
		}
		if s.Safety == level {
			return nil
		}
		s.Safety, s.SafetySeq = level, s.SafetySeq+1
		i.persist()
		i.expose(s)
		return nil
	})
}

func (i *Instance) timeout(db, argument string) error {
	return i.do(func() error {
		s, err := i.principal(db)
		if err != nil {
			return err
		}
		seconds, err := strconv.ParseInt(argument, 10, 32)
		if err != nil || seconds < 0 || seconds > maxTimeout {
			return fail(1476, "Database mirroring timeout value %s exceeds the maximum value %d.", argument, maxTimeout)
		}
		s.Timeout = max(int32(seconds), minTimeout)
		i.persist()
		i.configure(s)
		return nil
	})
}

const (
	minTimeout = 5
	maxTimeout = 32767
)

// setWitness goes three steps: both partners reach the witness; the mirror takes it; the principal takes it. Until the
// mirror has taken it nobody could promote the mirror by the new witness, and afterwards nobody by the old one.
func (i *Instance) setWitness(ctx context.Context, db, witness string) error {
	s, number := (*session)(nil), 0
	err := i.await(ctx, i.patience(), errNotSaid("the witness %s is not reached.", url(witness)), func() (bool, error) {
		var err error
		if s, err = i.principal(db); err != nil {
			return true, err
		}
		if finished, err := i.probeWitness(s, witness); finished || err != nil {
			return true, err
		}
		if i.link(witness) == nil || s.seen != witness {
			return false, nil
		}
		s.offer = &witness
		i.configure(s)
		number = s.number
		return true, nil
	})
	if err == nil && number > 0 {
		err = i.await(ctx, i.patience(), errWitness(db), func() (bool, error) {
			switch {
			case !s.connected || s.Role != rolePrincipal:
				return true, errWitness(db)
			case s.confirmed < number:
				return false, nil
			case s.Witness != witness:
				i.send(s.Witness, message{Kind: kindForget, Session: s.GUID})
				s.Witness, s.confirm, s.offer = witness, false, nil
				i.persist()
				i.claim(s)
			}
			return s.confirm && s.seen == witness, nil
		})
	}
	i.post(func() {
		if s != nil {
			s.prospect, s.offer = "", nil
			i.configure(s)
		}
	})
	return err
}

// probeWitness has both partners look for a witness; finished says that it is the witness already.
func (i *Instance) probeWitness(s *session, witness string) (finished bool, err error) {
	switch {
	case s.Witness == witness && s.prospect == "":
		return true, nil
	case witness == i.advertise || witness == s.Partner:
		return true, fail(1429, "The witness server instance name must be distinct from both of the server instances "+
			"that manage the database. The ALTER DATABASE SET WITNESS command failed.")
	case !s.connected || !s.synced:
		return true, errWitness(s.Database)
	}
	if l := i.link(witness); l != nil && l.role == "PARTNER" {
		return true, fail(1427, "The server instance '%s' could not act as the database mirroring witness. The ALTER "+
			"DATABASE SET WITNESS command failed.", url(witness))
	}
	if s.prospect != witness {
		s.prospect, s.seen = witness, ""
		i.configure(s)
	}
	return false, nil
}

func errWitness(string) *Error {
	return fail(1426, "To issue ALTER DATABASE SET WITNESS, all three server instances must be interconnected, and the "+
		"mirror database must be caught up. When these conditions are met, reissue the command.")
}

// witnessOff has the mirror, or else the witness, learn of it first.
func (i *Instance) witnessOff(ctx context.Context, db string) error {
	number, off := 0, ""
	err := i.await(ctx, i.patience(), errTimedOut(db), func() (bool, error) {
		s, err := i.principal(db)
		switch {
		case err != nil:
			return true, err
		case s.Witness == "" && number == 0:
			return true, fail(1439, "There is currently no witness associated with the database \"%s\".", db)
		case !s.connected && !s.confirm:
			return true, errNobody(db)
		}
		if number == 0 {
			s.offer, s.forgotten = &off, false
			i.configure(s)
			number = max(1, s.number)
			if !s.connected {
				i.send(s.Witness, message{Kind: kindForget, Session: s.GUID})
			}
			return false, nil
		}
		if !s.forgotten && (!s.connected || s.confirmed < number) {
			return false, nil
		}
		if s.connected {
			i.send(s.Witness, message{Kind: kindForget, Session: s.GUID})
		}
		s.Witness, s.confirm, s.offer = "", false, nil
		i.persist()
		if !s.synced {
			s.alone = true
			s.settle()
		}
		i.configure(s)
		return true, nil
	})
	i.post(func() {
		if s := i.session(db); s != nil {
			s.offer = nil
		}
	})
	return err
}
