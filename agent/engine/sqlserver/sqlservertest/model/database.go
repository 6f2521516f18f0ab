package model

import (
	"context"
	"errors"
)

// database finds a database by name; nil if there is none.
func (i *Instance) database(name string) *database {
	for _, d := range i.databases {
		if fold(d.name) == fold(name) {
			return d
		}
	}
	return nil
}

// newDatabase makes an empty database.
func (i *Instance) newDatabase(name string, restoring bool) (*database, error) {
	d, err := openDatabase(i.logFile(name), name, i.nextID)
	if err != nil {
		return nil, err
	}
	d.restoring = restoring
	i.nextID++
	i.databases = append(i.databases, d)
	return d, i.save()
}

// CreateDatabase makes an empty database in full recovery.
func (i *Instance) CreateDatabase(name string) error {
	return i.do(func() error {
		if i.database(name) != nil {
			return fail(1801, "Database '%s' already exists. Choose a different database name.", name)
		}
		d, err := i.newDatabase(name, false)
		if err != nil {
			return err
		}
		return d.append(d.next(record{Fork: newID()}))
	})
}

// do has the loop run f.
func (i *Instance) do(f func() error) error {
	var err error
	if !i.run(func() { err = f() }) {
		return errDown()
	}
	return err
}

// Databases are the rows of sys.databases, system databases apart.
func (i *Instance) Databases() []Database {
	var rows []Database
	i.run(func() {
		for _, d := range i.databases {
			row := Database{Name: d.name, ID: d.id}
			row.State, row.StateCode = d.state()
			if s := i.session(d.name); s != nil {
				s.describe(&row)
			}
			i.groups.describe(d, &row)
			rows = append(rows, row)
		}
	})
	return rows
}

// Access says whether a client may read, or write, a database now: nil, or the error that it gets.
func (i *Instance) Access(db string, write bool) *Error {
	var err *Error
	if !i.run(func() { err = i.access(db, write) }) {
		return errDown()
	}
	return err
}

func (i *Instance) access(db string, write bool) *Error {
	d := i.database(db)
	if d == nil {
		return errNoDatabase(db)
	}
	if d.suspect {
		return errSuspect(d.name)
	}
	if s := i.session(db); s != nil && s.GUID != "" {
		if err := s.access(); err != nil {
			return err
		}
	} else if ours, err := i.groups.access(d, write); ours {
		if err != nil {
			return err
		}
	} else if d.restoring {
		return errRestoring(d.name)
	}
	if write && i.knobs.disk(db).LogFull {
		return errLogFull(d.name)
	}
	return nil
}

// Done is closed when the sessions that use a database now must end. For a database that does not exist it is closed
// when the instance ends.
func (i *Instance) Done(db string) <-chan struct{} {
	done := (<-chan struct{})(i.dead)
	i.run(func() {
		if d := i.database(db); d != nil {
			done = d.done
		}
	})
	return done
}

// CreateTable makes a table; it is a transaction like any other.
func (i *Instance) CreateTable(ctx context.Context, db, table string) error {
	return i.commit(ctx, db, func(d *database) (record, error) {
		if d.tables[fold(table)] != nil {
			return record{}, fail(2714, "There is already an object named '%s' in the database.", table)
		}
		return record{Table: fold(table)}, nil
	})
}

// Commit writes rows in one transaction. It returns when the commit is acknowledged. ErrEnded, the error of ctx, or the
// end of the instance leave the outcome open.
func (i *Instance) Commit(ctx context.Context, db string, rows []Row) error {
	return i.commit(ctx, db, func(d *database) (record, error) {
		r := record{}
		for _, row := range rows {
			if d.tables[fold(row.Table)] == nil {
				return record{}, errNoTable(row.Table)
			}
			r.Rows = append(r.Rows, Row{fold(row.Table), row.Value})
		}
		return r, nil
	})
}

func errNoTable(table string) *Error { return fail(208, "Invalid object name '%s'.", table) }

func (i *Instance) commit(ctx context.Context, db string, write func(*database) (record, error)) error {
	outcome := make(chan error, 1)
	var ended <-chan struct{}
	err := i.runUntil(ctx, func() error {
		if err := i.access(db, true); err != nil {
			return err
		}
		d := i.database(db)
		r, err := write(d)
		if err != nil {
			return err
		}
		ended = d.done
		return i.harden(d, d.next(r), func(err error) { outcome <- err })
	})
	if err != nil {
		return err
	}
	select {
	case err := <-outcome:
		return err
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-i.dead:
		return errDown()
	}
	select {
	case err := <-outcome: // acknowledged before the session ended
		return err
	default:
		return ErrEnded
	}
}

// harden writes a record and has done called once, when the commit is acknowledged or failed.
func (i *Instance) harden(d *database, r record, done func(error)) error {
	if i.knobs.disk(d.name).LogBad {
		i.logFailed(d)
		return fail(9001, "The log for database '%s' is not available.", d.name)
	}
	if err := d.append(r); err != nil {
		i.logFailed(d)
		return errors.Join(fail(9001, "The log for database '%s' is not available.", d.name), err)
	}
	d.redo(0)
	if s := i.session(d.name); s != nil && s.GUID != "" {
		i.committed(s, r.LSN, done)
		return nil
	}
	if !i.groups.committed(d, r.LSN, done) {
		done(nil)
	}
	return nil
}

// logFailed is what a bad log disk does to a database: it is SUSPECT, and its partner and witness hear of it at once.
func (i *Instance) logFailed(d *database) {
	d.suspect = true
	if s := i.session(d.name); s != nil {
		i.withdraw(s)
	}
	d.endSessions()
}

// Select reads a table's values in the order in which they were committed. Values that are not acknowledged yet are
// among them.
func (i *Instance) Select(db, table string) ([]string, error) {
	var values []string
	err := i.do(func() error {
		if err := i.access(db, false); err != nil {
			return err
		}
		if i.knobs.disk(db).DataBad {
			return errRead(db)
		}
		found := i.database(db).tables[fold(table)]
		if found == nil {
			return errNoTable(table)
		}
		values = append([]string{}, found...)
		return nil
	})
	return values, err
}
