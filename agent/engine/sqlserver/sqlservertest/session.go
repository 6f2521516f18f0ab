package sqlservertest

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

type row = model.Row

// session is a client's session. Its requests come one after the other, so it needs no lock; only kill and its watch
// are used by another goroutine.
type session struct {
	instance *run
	login    tds.Login
	kill     func()
	over     context.Context // ends with the connection
	unwatch  context.CancelFunc

	database string
	depth    int       // of BEGIN TRANSACTION
	pending  []written // by the transaction
	context  map[string]string
	vars     map[string]any // of the batch
}

// written is a row that waits for its transaction's commit.
type written struct {
	database string
	row      row
}

// newSession logs a client in.
func (i *run) newSession(ctx context.Context, l tds.Login, kill func()) (tds.Session, tds.Greeting, []tds.Error) {
	const loginClass = 14
	if !i.admits(l.User, l.Password) {
		return nil, tds.Greeting{}, []tds.Error{{
			Number: 18456, Class: loginClass, State: 1, Message: "Login failed for user '" + l.User + "'.",
		}}
	}
	s := &session{instance: i, login: l, kill: kill, over: ctx, unwatch: func() {}, context: map[string]string{}}
	g := tds.Greeting{Database: "master"}
	s.database = g.Database
	if l.Database != "" {
		if e := i.access(l.Database, false); e != nil {
			e.Class = min(e.Class, loginClass)
			cannotOpen := sqlError(4060, 11, "Cannot open database \"%s\" requested by the login. The login failed.", l.Database)
			if e.Number == errorDatabase {
				e = sqlError(18456, loginClass, "Login failed for user '%s'.", l.User)
			}
			return nil, g, []tds.Error{wire(cannotOpen), wire(e)}
		}
		s.use(l.Database)
		g.Database, g.Partner = s.database, i.partnerOf(l.Database)
	}
	if i.knobs.refused(g.Database) {
		return nil, g, []tds.Error{{Number: 18456, Class: loginClass, State: 1, Message: "Login failed."}}
	}
	return s, g, nil
}

// partnerOf is the name of the instance that a client of a mirrored database goes to when this one is gone.
func (i *run) partnerOf(database string) string {
	for _, m := range i.model.Mirroring() {
		if strings.EqualFold(m.Database, database) {
			return m.PartnerInstance
		}
	}
	return ""
}

// access says whether a database may be used: the model's answer, and that system databases may.
func (i *run) access(database string, write bool) *model.Error {
	if systemDatabase(database) {
		return nil
	}
	return i.model.Access(database, write)
}

// use makes a database the session's. The session ends when that database stops serving.
func (s *session) use(database string) {
	s.unwatch()
	s.database = strings.ToLower(database)
	for _, d := range s.instance.databases() {
		if strings.EqualFold(d.Name, database) {
			s.database = d.Name
		}
	}
	var watch context.Context
	watch, s.unwatch = context.WithCancel(s.over)
	if systemDatabase(database) {
		return
	}
	done := s.instance.model.Done(database)
	go func() {
		select {
		case <-watch.Done():
		case <-done:
			s.kill()
		}
	}()
	// It may have stopped serving just before it was watched.
	if s.instance.access(database, false) != nil {
		s.kill()
	}
}

// Close ends the session; its transaction is rolled back by being forgotten.
func (s *session) Close() { s.unwatch() }

// Run does what the client asks.
func (s *session) Run(ctx context.Context, q tds.Request) tds.Response {
	if q.Reset {
		s.depth, s.pending = 0, nil
		clear(s.context)
		if back := s.login.Database; back == "" {
			s.use("master")
		} else if !strings.EqualFold(back, s.database) {
			s.use(back)
		}
	}
	var r tds.Response
	var err error
	switch q.Verb {
	case tds.Begin:
		s.depth++
	case tds.Commit:
		err = s.commit(ctx)
	case tds.Rollback:
		s.depth, s.pending = 0, nil
	case tds.Run:
		err = s.batch(ctx, q, &r)
	}
	if err != nil {
		s.failed(&r, err)
	}
	return r
}

// failed puts an error into a response. An error of the model's that leaves an outcome open ends the connection, as
// that of a killed session does; the client learns nothing.
func (s *session) failed(r *tds.Response, err error) {
	var refused *model.Error
	switch {
	case errors.Is(err, model.ErrEnded), errors.Is(err, context.Canceled):
		// Of a statement that the client has stopped nothing is told but that: the server looks at no answer then.
		r.Drop = true
	case errors.As(err, &refused):
		r.Errors = append(r.Errors, wire(refused))
	default:
		r.Errors = append(r.Errors, tds.Error{Number: 50000, Class: 16, State: 1, Message: "the fake: " + err.Error()})
	}
}

func wire(e *model.Error) tds.Error {
	return tds.Error{Number: e.Number, Class: e.Class, State: e.State, Message: e.Message}
}

// batch runs statements until one fails. SQL Server would go on after most errors; no client of this fake needs that.
func (s *session) batch(ctx context.Context, q tds.Request, r *tds.Response) error {
	s.vars = map[string]any{}
	for _, p := range q.Params {
		s.vars[strings.ToLower(p.Name)] = p.Value
	}
	if q.Procedure != "" {
		result, err := s.procedure(q.Procedure, s.vars)
		r.Results = append(r.Results, result...)
		return err
	}
	statements, err := parse(q.SQL)
	if err != nil {
		return err
	}
	before := s.database
	for _, one := range statements {
		if err := s.statement(ctx, one, r); err != nil {
			return err
		}
	}
	if s.database != before {
		r.Database = s.database
	}
	return nil
}

// statement runs one statement.
func (s *session) statement(ctx context.Context, one statement, r *tds.Response) error {
	switch one := one.(type) {
	case query:
		result, err := s.selectRows(ctx, one)
		if err == nil {
			r.Results = append(r.Results, result)
		}
		return err
	case insert:
		n, err := s.insertRows(ctx, one)
		return changed(r, n, err)
	case update:
		n, err := s.modify(ctx, one.table, entry{Set: one.set, Where: one.where})
		return changed(r, n, err)
	case deleteRows:
		n, err := s.modify(ctx, one.table, entry{Delete: true, Where: one.where})
		return changed(r, n, err)
	}
	return s.command(ctx, one, r)
}

// changed adds how many rows a statement changed.
func changed(r *tds.Response, n int64, err error) error {
	if err == nil {
		r.Results = append(r.Results, tds.Result{Affected: n})
	}
	return err
}

// command runs a statement that gives no rows.
func (s *session) command(ctx context.Context, one statement, r *tds.Response) error {
	i := s.instance
	switch one := one.(type) {
	case nothing:
		return nil
	case createDatabase:
		return i.model.CreateDatabase(one.name)
	case createTable:
		return s.createTable(ctx, one)
	case alterMirroring:
		return i.model.AlterMirroring(ctx, one.database, one.verb, one.argument)
	case alterEndpoint:
		return i.model.AlterEndpoint(ctx, one.started)
	case alterGroup, alterHadr, createGroup:
		return s.group(ctx, one)
	case execute:
		arguments := map[string]any{}
		at := s.scope()
		for name, e := range one.arguments {
			v, err := at.evaluate(e)
			if err != nil {
				return err
			}
			arguments[name] = v
		}
		results, err := s.procedure(one.procedure, arguments)
		r.Results = append(r.Results, results...)
		return err
	case shutdown:
		go i.crash()
		return nil
	}
	return s.control(ctx, one, r)
}

// control runs a statement that is about the session.
func (s *session) control(ctx context.Context, one statement, r *tds.Response) error {
	switch one := one.(type) {
	case useDatabase:
		if e := s.instance.access(one.database, false); e != nil {
			return e
		}
		s.use(one.database)
	case beginWork:
		s.depth++
	case commitWork:
		return s.commit(ctx)
	case rollback:
		s.depth, s.pending = 0, nil
	case printText:
		r.Infos = append(r.Infos, tds.Error{Message: one.text, State: 1})
	case waitFor:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(one.delay):
		}
	case declare:
		var v any
		if one.value != nil {
			var err error
			if v, err = s.scope().evaluate(one.value); err != nil {
				return err
			}
		}
		s.vars[strings.ToLower(one.name)] = v
	}
	return nil
}

// commit ends a transaction. What it wrote to several databases is committed one after the other: the fake has no
// transaction over databases.
func (s *session) commit(ctx context.Context) error {
	const noTransaction = 3902
	if s.depth == 0 {
		return sqlError(noTransaction, 16, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
	}
	if s.depth--; s.depth > 0 {
		return nil
	}
	var order []string
	byDatabase := map[string][]row{}
	for _, w := range s.pending {
		key := strings.ToLower(w.database)
		if byDatabase[key] == nil {
			order = append(order, key)
		}
		byDatabase[key] = append(byDatabase[key], w.row)
	}
	s.pending = nil
	for _, database := range order {
		if err := s.instance.model.Commit(ctx, database, byDatabase[database]); err != nil {
			return err
		}
	}
	return nil
}

// procedure runs a system procedure.
func (s *session) procedure(name string, arguments map[string]any) ([]tds.Result, error) {
	name = strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	switch strings.Trim(name, "[]") {
	case "sp_server_diagnostics":
		return []tds.Result{s.instance.diagnostics()}, nil
	case "sp_set_session_context":
		s.context[textOf(arguments["@key"])] = textOf(arguments["@value"])
		return nil, nil
	case "sp_reset_connection":
		return nil, nil
	}
	return nil, sqlError(errorProcedure, 16, "Could not find stored procedure '%s'.", name)
}

// scope is where the names of an expression outside of any table lead.
func (s *session) scope() *scope { return &scope{vars: maps.Clone(s.vars), call: s.function} }

// table is what a name in FROM leads to.
func (s *session) table(_ context.Context, o object) (table, error) {
	if strings.EqualFold(o.schema, "sys") {
		if t, ok := s.instance.catalog(o.name); ok {
			return t, nil
		}
		return table{}, sqlError(errorObject, 16, "Invalid object name '%s'.", o)
	}
	return s.userTable(o)
}
