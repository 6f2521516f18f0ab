package model

import "context"

// This file makes mirroring sessions and removes them.

// Kinds of messages before there is a session.
const (
	kindInvite  = "invite"  // principal: be my mirror; with the whole log
	kindInvited = "invited" // mirror: yes, or an Error
)

// setPartner runs on the mirror first, where the database is missing or RESTORING, and then on the principal.
func (i *Instance) setPartner(ctx context.Context, db, partner string) error {
	var principal bool
	err := i.do(func() error {
		if i.bound == "" {
			return fail(1486, "Database Mirroring Transport is disabled in the endpoint configuration.")
		}
		if partner == i.advertise {
			return fail(1412, "The remote copy of database \"%s\" is this one.", db)
		}
		if i.session(db) != nil {
			return fail(1468, "The operation cannot be performed on database \"%s\" because it is involved in a "+
				"database mirroring session or an availability group.", db)
		}
		d := i.database(db)
		var err error
		if d == nil {
			d, err = i.newDatabase(db, true)
		}
		if err != nil {
			return err
		}
		principal = !d.restoring
		role := roleMirror
		if principal {
			role = rolePrincipal
		}
		i.sessions = append(i.sessions, &session{db: d, savedSession: savedSession{
			Database: d.name, Role: role, Partner: partner, Safety: safetyFull, SafetySeq: 1, Timeout: defaultTimeout,
		}})
		return i.save()
	})
	if err != nil || !principal {
		return err
	}
	return i.invite(ctx, db, partner)
}

// invite has the mirror take the copy, and begins the session.
func (i *Instance) invite(ctx context.Context, db, partner string) error {
	guid := ""
	unreachable := fail(1418, "The server network address \"%s\" can not be reached or does not exist. Check the "+
		"network address name and that the ports for the local and remote endpoints are operational.", url(partner))
	err := i.await(ctx, i.patience(), unreachable, func() (bool, error) {
		s := i.session(db)
		switch {
		case s == nil:
			return true, errNotMirrored(db)
		case s.GUID != "":
			return true, nil
		case s.setupError != nil:
			return true, s.setupError
		case i.link(partner) == nil:
			return false, nil
		case guid == "":
			guid = newID()
			s.invite = guid
			i.send(partner, message{
				Kind: kindInvite, Session: guid, Database: s.Database, Name: i.options.Name, Records: s.db.records,
				Seq: 1, Safety: s.Safety, SafetySeq: s.SafetySeq, Timeout: s.Timeout,
			})
		}
		return false, nil
	})
	if err != nil {
		i.run(func() {
			if s := i.session(db); s != nil && s.GUID == "" {
				i.removeSession(s)
			}
		})
	}
	return err
}

// invited handles both: the invitation on the mirror and its answer on the principal.
func (i *Instance) invited(peer string, m message) {
	s := i.session(m.Database)
	if m.Kind == kindInvited {
		if s == nil || s.invite != m.Session || s.GUID != "" {
			return
		}
		if m.Error != nil {
			s.setupError = m.Error
			return
		}
		s.GUID, s.Seq, s.PartnerID = m.Session, 1, m.Name
		s.quorum, s.alone = true, true
		i.persist()
		return
	}
	answer := message{Kind: kindInvited, Session: m.Session, Database: m.Database, Name: i.options.Name}
	switch {
	case s == nil || s.GUID != "" || s.Role != roleMirror || s.Partner != peer:
		answer.Error = fail(1416, "Database \"%s\" is not configured for database mirroring on the partner.", m.Database)
	case s.db.truncate(LSN{}) != nil || s.db.append(m.Records...) != nil:
		answer.Error = fail(1456, "The partner cannot write its log of database \"%s\".", m.Database)
	default:
		s.GUID, s.Seq, s.PartnerID, s.Safety, s.SafetySeq = m.Session, m.Seq, m.Name, m.Safety, m.SafetySeq
		s.Timeout = m.Timeout
		i.persist()
	}
	i.send(peer, answer)
	if answer.Error == nil {
		i.greetPartner(s)
	}
}

// partnerOff removes mirroring, here and on a partner that is connected. A mirror stays RESTORING.
func (i *Instance) partnerOff(db string) error {
	return i.do(func() error {
		s := i.session(db)
		if s == nil {
			return errNotMirrored(db)
		}
		if s.GUID != "" {
			i.tell(s, message{Kind: kindOff})
			if s.Witness != "" {
				i.send(s.Witness, message{Kind: kindForget, Session: s.GUID})
			}
		}
		i.removeSession(s)
		return nil
	})
}

// recover is RESTORE DATABASE ... WITH RECOVERY.
func (i *Instance) recover(db string) error {
	return i.do(func() error {
		d := i.database(db)
		switch {
		case d == nil:
			return errNoDatabase(db)
		case i.session(db) != nil:
			return fail(3104, "RESTORE cannot operate on database '%s' because it is configured for database mirroring "+
				"or has joined an availability group.", db)
		case !d.restoring:
			return fail(3153, "The database is already fully recovered.")
		}
		if err := d.append(d.next(record{Fork: newID()})); err != nil {
			return err
		}
		d.redo(0)
		d.restoring = false
		return i.save()
	})
}
