package sqlserver

import (
	"context"
	"database/sql"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// Group asks for a group and this instance's part in it; false if the instance does not know it.
func (c *Client) Group(ctx context.Context, group string) (GroupRow, bool, error) {
	var r GroupRow
	found := false
	err := c.query(ctx, lookGroup(), func(rows *sql.Rows) error {
		var (
			id, replica                                               mssql.NullUniqueIdentifier
			sequence, required                                        sql.NullInt64
			failover                                                  sql.NullBool
			cluster, role, operational, recovery, connected, synchron sql.NullString
		)
		found = true
		err := rows.Scan(&id, &r.Name, &sequence, &required, &cluster, &failover, &replica, &role, &operational,
			&recovery, &connected, &synchron)
		r.ID, r.ReplicaID = identifier(id), identifier(replica)
		r.Sequence, r.Required, r.DatabaseFailover = sequence.Int64, int32(required.Int64), failover.Bool
		r.ClusterType, r.Role, r.OperationalState = upper(cluster), upper(role), upper(operational)
		r.RecoveryHealth, r.Connected, r.SynchronizeHealth = upper(recovery), upper(connected), upper(synchron)
		return err
	}, group)
	return r, found, err
}

// Lease asks for a group's write lease. SQL Server shows it from 2019 on; before that it is not known.
func (c *Client) Lease(ctx context.Context, group string) (Lease, error) {
	const invalidColumn = 207
	var l Lease
	err := c.query(ctx, lookLease(), func(rows *sql.Rows) error {
		var ticks sql.NullInt64
		var configuring sql.NullTime
		err := rows.Scan(&ticks, &configuring)
		l = Lease{Left: time.Duration(ticks.Int64) * tick, Known: ticks.Valid, Configuring: configuring.Time}
		return err
	}, group)
	if NumberOf(err) == invalidColumn {
		return Lease{}, nil
	}
	return l, err
}

// Replicas asks for a group's replicas.
func (c *Client) Replicas(ctx context.Context, group string) ([]ReplicaRow, error) {
	var all []ReplicaRow
	err := c.query(ctx, lookReplicas(), func(rows *sql.Rows) error {
		var (
			r                                                    ReplicaRow
			id                                                   mssql.NullUniqueIdentifier
			server, endpoint, mode, role, connected, synchronize sql.NullString
			local                                                sql.NullBool
		)
		err := rows.Scan(&id, &server, &endpoint, &mode, &local, &role, &connected, &synchronize)
		r.ID, r.Server, r.Endpoint = identifier(id), strings.TrimSpace(server.String), strings.TrimSpace(endpoint.String)
		r.Mode, r.Local, r.Role = upper(mode), local.Bool, upper(role)
		r.Connected, r.SynchronizeHealth = upper(connected), upper(synchronize)
		all = append(all, r)
		return err
	}, group)
	return all, err
}

// GroupDatabases asks for the databases of a group. A secondary knows its own only.
func (c *Client) GroupDatabases(ctx context.Context, group string) ([]GroupDatabaseRow, error) {
	var all []GroupDatabaseRow
	err := c.query(ctx, lookGroupDatabases(), func(rows *sql.Rows) error {
		var (
			r                                  GroupDatabaseRow
			id, replica                        mssql.NullUniqueIdentifier
			local, primary, suspended          sql.NullBool
			state, databaseState, why          sql.NullString
			redo, redoRate, unsent, unsentRate sql.NullInt64
		)
		err := rows.Scan(&r.Database, &id, &replica, &local, &primary, &state, &databaseState, &suspended, &why,
			&r.Hardened, &r.Committed, &redo, &redoRate, &unsent, &unsentRate)
		r.GroupID, r.ReplicaID, r.Local, r.Primary = identifier(id), identifier(replica), local.Bool, primary.Bool
		r.State, r.DatabaseState = upper(state), upper(databaseState)
		r.Suspended, r.SuspendReason = suspended.Bool, upper(why)
		r.RedoQueueKB, r.RedoRateKB = redo.Int64, redoRate.Int64
		r.SendQueueKB, r.SendRateKB = unsent.Int64, unsentRate.Int64
		all = append(all, r)
		return err
	}, group)
	return all, err
}
