package sqlservertest

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// groupCatalog is a view of availability groups.
func (i *run) groupCatalog(name string) (table, bool) {
	switch strings.ToLower(name) {
	case "availability_groups":
		return i.groupsView(), true
	case "availability_replicas":
		return i.replicasView(), true
	case "dm_hadr_availability_replica_states":
		return i.replicaStatesView(), true
	case "dm_hadr_database_replica_states":
		return i.groupDatabasesView(), true
	}
	return table{}, false
}

func (i *run) groupsView() table {
	type G = model.Group
	return view(i.model.Groups(),
		field[G]{"group_id", tds.GUID, func(g G) any { return g.ID }},
		field[G]{"name", tds.Text, func(g G) any { return g.Name }},
		field[G]{"sequence_number", tds.BigInt, func(g G) any { return g.Sequence }},
		field[G]{"required_synchronized_secondaries_to_commit", tds.Int, func(g G) any { return int64(g.Required) }},
		field[G]{"cluster_type", tds.TinyInt, func(g G) any { return clusterCode(g.ClusterType) }},
		field[G]{"cluster_type_desc", tds.Text, func(g G) any { return g.ClusterType }},
		field[G]{"db_failover", tds.Bit, func(g G) any { return g.DBFailover }},
	)
}

func clusterCode(clusterType string) any {
	switch clusterType {
	case "NONE":
		return int64(1)
	case "EXTERNAL":
		return int64(2)
	default:
		return int64(0)
	}
}

func (i *run) replicasView() table {
	type R = model.Replica
	return view(i.model.Replicas(),
		field[R]{"replica_id", tds.GUID, func(r R) any { return r.ID }},
		field[R]{"group_id", tds.GUID, func(r R) any { return r.GroupID }},
		field[R]{"replica_server_name", tds.Text, func(r R) any { return r.Server }},
		field[R]{"endpoint_url", tds.Text, func(r R) any { return r.Endpoint }},
		field[R]{"availability_mode", tds.TinyInt, func(r R) any { return int64(r.ModeCode) }},
		field[R]{"availability_mode_desc", tds.Text, func(r R) any { return r.Mode }},
		field[R]{"failover_mode_desc", tds.Text, func(R) any { return "EXTERNAL" }},
	)
}

// replicaStatesView has a row for each replica whose state is known here.
func (i *run) replicaStatesView() table {
	type R = model.Replica
	var known []R
	for _, r := range i.model.Replicas() {
		if r.IsLocal || r.Role != "" || r.Connected != "" {
			known = append(known, r)
		}
	}
	groups := map[string]model.Group{}
	for _, g := range i.model.Groups() {
		groups[g.ID] = g
	}
	lease := func(r R) any {
		if g := groups[r.GroupID]; r.IsLocal && g.LeaseTicks >= 0 {
			return g.LeaseTicks
		}
		return nil
	}
	configuring := func(r R) any {
		if g := groups[r.GroupID]; r.IsLocal && !g.Configuring.IsZero() {
			return g.Configuring
		}
		return nil
	}
	code := func(r R) any {
		if r.Role == "" {
			return nil
		}
		return int64(r.RoleCode)
	}
	return view(known,
		field[R]{"replica_id", tds.GUID, func(r R) any { return r.ID }},
		field[R]{"group_id", tds.GUID, func(r R) any { return r.GroupID }},
		field[R]{"is_local", tds.Bit, func(r R) any { return r.IsLocal }},
		field[R]{"role", tds.TinyInt, code},
		field[R]{"role_desc", tds.Text, func(r R) any { return orNull(r.Role) }},
		field[R]{"operational_state_desc", tds.Text, func(r R) any { return orNull(r.Operational) }},
		field[R]{"recovery_health_desc", tds.Text, func(r R) any { return orNull(r.Recovery) }},
		field[R]{"connected_state_desc", tds.Text, func(r R) any { return orNull(r.Connected) }},
		field[R]{"synchronization_health_desc", tds.Text, func(r R) any { return orNull(r.Health) }},
		field[R]{"write_lease_remaining_ticks", tds.BigInt, lease},
		field[R]{"current_configuration_commit_start_time_utc", tds.DateTime, configuring},
	)
}

func (i *run) groupDatabasesView() table {
	type D = model.GroupDatabase
	return view(i.model.GroupDatabases(),
		field[D]{"database_id", tds.Int, func(d D) any { return int64(d.DatabaseID) }},
		field[D]{"group_id", tds.GUID, func(d D) any { return d.GroupID }},
		field[D]{"replica_id", tds.GUID, func(d D) any { return d.ReplicaID }},
		field[D]{"group_database_id", tds.GUID, func(d D) any { return orNull(d.ID) }},
		field[D]{"is_local", tds.Bit, func(d D) any { return d.IsLocal }},
		field[D]{"is_primary_replica", tds.Bit, func(d D) any { return d.IsPrimary }},
		field[D]{"synchronization_state", tds.TinyInt, func(d D) any { return int64(d.StateCode) }},
		field[D]{"synchronization_state_desc", tds.Text, func(d D) any { return orNull(d.State) }},
		field[D]{"database_state_desc", tds.Text, func(d D) any { return orNull(d.DatabaseState) }},
		field[D]{"is_suspended", tds.Bit, func(d D) any { return d.Suspended }},
		field[D]{"suspend_reason_desc", tds.Text, func(d D) any { return orNull(d.SuspendReason) }},
		field[D]{"last_hardened_lsn", tds.Numeric, func(d D) any { return numericLSN(d.Hardened) }},
		field[D]{"last_commit_lsn", tds.Numeric, func(d D) any { return numericLSN(d.Committed) }},
		field[D]{"redo_queue_size", tds.BigInt, func(d D) any { return d.RedoQueueKB }},
		field[D]{"redo_rate", tds.BigInt, func(d D) any { return d.RedoRateKB }},
		field[D]{"log_send_queue_size", tds.BigInt, func(d D) any { return d.SendQueueKB }},
		field[D]{"log_send_rate", tds.BigInt, func(d D) any { return d.SendRateKB }},
	)
}

// group runs a statement about availability groups.
func (s *session) group(ctx context.Context, one statement) error {
	m := s.instance.model
	switch one := one.(type) {
	case alterGroup:
		external := strings.EqualFold(s.context["external_cluster"], "yes")
		return m.AlterGroup(ctx, one.group, model.GroupVerb(one.verb), one.argument, external)
	case alterHadr:
		return m.AlterHadr(ctx, one.database, model.GroupVerb("HADR "+one.verb))
	case createGroup:
		spec, err := one.spec()
		if err != nil {
			return err
		}
		return m.CreateGroup(ctx, spec)
	}
	return nil
}

func (c createGroup) spec() (model.GroupSpec, error) {
	spec := model.GroupSpec{
		Name: c.group, ClusterType: strings.ToUpper(c.options["CLUSTER_TYPE"]), Databases: c.databases,
		DBFailover: strings.EqualFold(c.options["DB_FAILOVER"], "ON"),
	}
	for option, to := range map[string]*int{groupRequired: &spec.Required, groupLease: &spec.Lease} {
		text, ok := c.options[option]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return spec, sqlError(errorSyntax, 15, "Incorrect syntax near '%s'.", short(text))
		}
		*to = n
	}
	for _, r := range c.replicas {
		spec.Replicas = append(spec.Replicas, model.ReplicaSpec{
			Server: r.server, Endpoint: r.options["ENDPOINT_URL"], Mode: strings.ToUpper(r.options["AVAILABILITY_MODE"]),
		})
	}
	return spec, nil
}

// SlowGroups makes each change of a group's role take that long after its statement has returned.
func (k *Knobs) SlowGroups(by time.Duration) { k.groups.SlowGroups(by) }

// StrictPairs has a group of two replicas need both for a change of its configuration.
func (k *Knobs) StrictPairs(strict bool) { k.groups.StrictPairs(strict) }
