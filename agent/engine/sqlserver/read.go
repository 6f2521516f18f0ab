package sqlserver

import (
	"context"
	"database/sql"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// tick is the unit of write_lease_remaining_ticks: 100 ns, as all ticks of SQL Server's are.
const tick = 100 * time.Nanosecond

// Server asks for the instance's name and version.
func (c *Client) Server(ctx context.Context) (Server, error) {
	var s Server
	err := c.query(ctx, lookServer(), func(rows *sql.Rows) error { return rows.Scan(&s.Name, &s.Version) })
	s.Version = strings.TrimSpace(strings.SplitN(s.Version, "\n", 2)[0])
	return s, err
}

// Started is when the instance started, by its own clock and without a time zone: a text that differs after every
// start, and nothing else.
func (c *Client) Started(ctx context.Context) (string, error) {
	var at time.Time
	err := c.query(ctx, lookStarted(), func(rows *sql.Rows) error { return rows.Scan(&at) })
	if err != nil {
		return "", err
	}
	return at.Format("2006-01-02T15:04:05.000"), nil
}

// Sysadmin says whether the login is a member of sysadmin.
func (c *Client) Sysadmin(ctx context.Context) (bool, error) {
	var member sql.NullInt64
	err := c.query(ctx, lookSysadmin(), func(rows *sql.Rows) error { return rows.Scan(&member) })
	return member.Int64 == 1, err
}

// Databases asks for the state of every database.
func (c *Client) Databases(ctx context.Context) ([]DatabaseRow, error) {
	var all []DatabaseRow
	err := c.query(ctx, lookDatabases(), func(rows *sql.Rows) error {
		var r DatabaseRow
		var state, wait sql.NullString
		if err := rows.Scan(&r.Name, &r.ID, &state, &wait); err != nil {
			return err
		}
		r.State, r.LogWait = upper(state), upper(wait)
		all = append(all, r)
		return nil
	})
	return all, err
}

// Mirroring asks for every mirroring session of the instance.
func (c *Client) Mirroring(ctx context.Context) ([]MirroringRow, error) {
	var all []MirroringRow
	err := c.query(ctx, lookMirroring(), func(rows *sql.Rows) error {
		r, err := scanMirroring(rows)
		all = append(all, r)
		return err
	})
	return all, err
}

func scanMirroring(rows *sql.Rows) (MirroringRow, error) {
	var (
		r                                                          MirroringRow
		guid                                                       mssql.NullUniqueIdentifier
		databaseState, state, role, safety, partner, instance, wit sql.NullString
		witnessState                                               sql.NullString
		sequence, safetySequence, timeout                          sql.NullInt64
	)
	err := rows.Scan(&r.Database, &r.ID, &databaseState, &guid, &state, &role, &sequence, &safety, &safetySequence,
		&partner, &instance, &wit, &witnessState, &r.FailoverLSN, &r.EndOfLog, &timeout)
	if err != nil {
		return r, err
	}
	r.GUID = identifier(guid)
	r.DatabaseState, r.State, r.Role, r.Safety = upper(databaseState), upper(state), upper(role), upper(safety)
	r.RoleSequence, r.SafetySeq = int32(sequence.Int64), int32(safetySequence.Int64)
	r.Partner, r.PartnerName = strings.TrimSpace(partner.String), strings.TrimSpace(instance.String)
	r.Witness, r.WitnessState = strings.TrimSpace(wit.String), upper(witnessState)
	r.Timeout = time.Duration(timeout.Int64) * time.Second
	return r, nil
}

// Endpoint asks for the mirroring endpoint; false if the instance has none.
func (c *Client) Endpoint(ctx context.Context) (EndpointRow, bool, error) {
	var r EndpointRow
	found := false
	err := c.query(ctx, lookEndpoint(), func(rows *sql.Rows) error {
		var role, state sql.NullString
		found = true
		err := rows.Scan(&r.Name, &role, &state)
		r.Role, r.State = upper(role), upper(state)
		return err
	})
	return r, found, err
}

// Counters asks for the counters of the mirroring sessions.
func (c *Client) Counters(ctx context.Context) ([]CounterRow, error) {
	return c.counters(ctx, lookCounters())
}

// LogsUsed asks how full the log of each database is, in percent.
func (c *Client) LogsUsed(ctx context.Context) ([]CounterRow, error) {
	return c.counters(ctx, lookLogs())
}

func (c *Client) counters(ctx context.Context, s Statement) ([]CounterRow, error) {
	var all []CounterRow
	err := c.query(ctx, s, func(rows *sql.Rows) error {
		var r CounterRow
		if err := rows.Scan(&r.Database, &r.Counter, &r.Value); err != nil {
			return err
		}
		// The view's columns have a fixed width.
		r.Database, r.Counter = strings.TrimSpace(r.Database), strings.TrimSpace(r.Counter)
		all = append(all, r)
		return nil
	})
	return all, err
}

// Diagnostics asks the instance for its own opinion of its health. It can take five seconds by itself, so it has a
// connection of its own.
func (c *Client) Diagnostics(ctx context.Context) ([]DiagnosticRow, error) {
	var all []DiagnosticRow
	err := c.queryOn(ctx, c.slow, commandPatience, lookDiagnostics(), func(rows *sql.Rows) error {
		r, err := scanDiagnostic(rows)
		all = append(all, r)
		return err
	})
	return all, err
}

// scanDiagnostic reads the two columns that count by their names: the procedure's others differ by version.
func scanDiagnostic(rows *sql.Rows) (DiagnosticRow, error) {
	var r DiagnosticRow
	columns, err := rows.Columns()
	if err != nil {
		return r, err
	}
	into := make([]any, len(columns))
	for i, column := range columns {
		switch strings.ToLower(column) {
		case "component_name":
			into[i] = &r.Component
		case "state_desc":
			into[i] = &r.State
		default:
			into[i] = new(any)
		}
	}
	err = rows.Scan(into...)
	r.Component, r.State = strings.ToLower(r.Component), strings.ToLower(r.State)
	return r, err
}

func upper(s sql.NullString) string { return strings.ToUpper(strings.TrimSpace(s.String)) }

// identifier is a GUID in upper case, "" for NULL.
func identifier(g mssql.NullUniqueIdentifier) string {
	if !g.Valid {
		return ""
	}
	return strings.ToUpper(g.UUID.String())
}
