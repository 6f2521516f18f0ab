package sqlservertest

import (
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// field is a column of a catalog view, and where its value comes from. A function of nil is NULL in every row.
type field[T any] struct {
	name  string
	kind  tds.Kind
	value func(T) any
}

func view[T any](of []T, fields ...field[T]) table {
	var t table
	for _, f := range fields {
		t.columns = append(t.columns, tds.Column{Name: f.name, Kind: f.kind})
	}
	for _, one := range of {
		row := make([]any, len(fields))
		for i, f := range fields {
			if f.value != nil {
				row[i] = f.value(one)
			}
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// orNull is a text that is NULL when it is empty.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// catalog is a view of the server; false if it has none of that name.
func (i *run) catalog(name string) (table, bool) {
	switch strings.ToLower(name) {
	case "databases":
		return i.databasesView(), true
	case "database_mirroring":
		return i.mirroringView(), true
	case "database_mirroring_witnesses":
		return i.witnessesView(), true
	case "database_mirroring_endpoints", "endpoints", "tcp_endpoints":
		return i.endpointsView(), true
	case "dm_os_sys_info":
		return view([]time.Time{i.model.Started()},
			field[time.Time]{"sqlserver_start_time", tds.DateTime, func(t time.Time) any { return t }},
			field[time.Time]{"cpu_count", tds.Int, func(time.Time) any { return int64(2) }}), true
	case "dm_os_performance_counters":
		return i.countersView(), true
	case "dm_exec_sessions":
		return view(make([]struct{}, i.server.Sessions()), field[struct{}]{"session_id", tds.SmallInt, nil}), true
	}
	return i.groupCatalog(name)
}

// systemDatabases are those that every instance has.
func systemDatabases() []model.Database {
	return []model.Database{
		{Name: "master", ID: 1, State: "ONLINE"}, {Name: "tempdb", ID: 2, State: "ONLINE"},
		{Name: "model", ID: 3, State: "ONLINE"}, {Name: "msdb", ID: 4, State: "ONLINE"},
	}
}

func systemDatabase(name string) bool {
	for _, d := range systemDatabases() {
		if strings.EqualFold(d.Name, name) {
			return true
		}
	}
	return false
}

// databases are all databases. The model's have ids after those of the system's.
func (i *run) databases() []model.Database { return append(systemDatabases(), i.model.Databases()...) }

func (i *run) databasesView() table {
	type D = model.Database
	waits := map[string]string{}
	for _, m := range i.model.Mirroring() {
		if m.RoleDesc == "PRINCIPAL" && (m.Desc == "DISCONNECTED" || m.Desc == "SUSPENDED") {
			waits[strings.ToLower(m.Database)] = "DATABASE_MIRRORING"
		}
	}
	wait := func(d D) string {
		if w, ok := waits[strings.ToLower(d.Name)]; ok {
			return w
		}
		return "NOTHING"
	}
	return view(i.databases(),
		field[D]{"name", tds.Text, func(d D) any { return d.Name }},
		field[D]{"database_id", tds.Int, func(d D) any { return int64(d.ID) }},
		field[D]{"state", tds.TinyInt, func(d D) any { return int64(d.StateCode) }},
		field[D]{"state_desc", tds.Text, func(d D) any { return d.State }},
		field[D]{"log_reuse_wait_desc", tds.Text, func(d D) any { return wait(d) }},
		field[D]{"recovery_model_desc", tds.Text, func(D) any { return "FULL" }},
		field[D]{"user_access_desc", tds.Text, func(D) any { return "MULTI_USER" }},
		field[D]{"is_read_only", tds.Bit, func(D) any { return false }},
		field[D]{"compatibility_level", tds.TinyInt, func(D) any { return int64(160) }},
		field[D]{"group_database_id", tds.GUID, func(d D) any { return orNull(d.GroupID) }},
	)
}

// numericLSN is an LSN as the views show it, numeric(25,0): three numbers in a row, the last two with 10 and 5 digits.
// The zero LSN is NULL.
func numericLSN(l model.LSN) any {
	if l == (model.LSN{}) {
		return nil
	}
	return fmt.Sprintf("%d%010d%05d", l.VLF, l.Block, l.Slot)
}

// mirroringView has a row for every database; of one that is not mirrored all columns but the first are NULL.
func (i *run) mirroringView() table {
	type M = model.Mirroring
	known := map[string]M{}
	for _, m := range i.model.Mirroring() {
		known[strings.ToLower(m.Database)] = m
	}
	var rows []M
	for _, d := range i.databases() {
		m := known[strings.ToLower(d.Name)]
		m.Database, m.ID = d.Name, d.ID
		rows = append(rows, m)
	}
	if i.knobs.hidesMirrors() {
		for n, m := range rows {
			if m.RoleDesc == "MIRROR" {
				rows[n] = M{Database: m.Database, ID: m.ID}
			}
		}
	}
	mirrored := func(f func(M) any) func(M) any {
		return func(m M) any {
			if m.GUID == "" {
				return nil
			}
			return f(m)
		}
	}
	// Without a witness its columns are NULL.
	witnessed := func(f func(M) any) func(M) any {
		return func(m M) any {
			if m.Witness == "" {
				return nil
			}
			return f(m)
		}
	}
	return view(rows,
		field[M]{"database_id", tds.Int, func(m M) any { return int64(m.ID) }},
		field[M]{"mirroring_guid", tds.GUID, func(m M) any { return orNull(m.GUID) }},
		field[M]{"mirroring_state", tds.TinyInt, mirrored(func(m M) any { return int64(m.State) })},
		field[M]{"mirroring_state_desc", tds.Text, func(m M) any { return orNull(m.Desc) }},
		field[M]{"mirroring_role", tds.TinyInt, mirrored(func(m M) any { return int64(m.Role) })},
		field[M]{"mirroring_role_desc", tds.Text, func(m M) any { return orNull(m.RoleDesc) }},
		field[M]{"mirroring_role_sequence", tds.Int, mirrored(func(m M) any { return int64(m.RoleSequence) })},
		field[M]{"mirroring_safety_level", tds.TinyInt, mirrored(func(m M) any { return int64(m.Safety) })},
		field[M]{"mirroring_safety_level_desc", tds.Text, func(m M) any { return orNull(m.SafetyDesc) }},
		field[M]{"mirroring_safety_sequence", tds.Int, mirrored(func(m M) any { return int64(m.SafetySequence) })},
		field[M]{"mirroring_partner_name", tds.Text, func(m M) any { return orNull(m.Partner) }},
		field[M]{"mirroring_partner_instance", tds.Text, func(m M) any { return orNull(m.PartnerInstance) }},
		field[M]{"mirroring_witness_name", tds.Text, func(m M) any { return orNull(m.Witness) }},
		field[M]{"mirroring_witness_state", tds.TinyInt, witnessed(func(m M) any { return int64(m.WitnessState) })},
		field[M]{"mirroring_witness_state_desc", tds.Text, witnessed(func(m M) any { return m.WitnessStateDesc })},
		field[M]{"mirroring_failover_lsn", tds.Numeric, mirrored(func(m M) any { return numericLSN(m.FailoverLSN) })},
		field[M]{"mirroring_end_of_log_lsn", tds.Numeric, mirrored(func(m M) any { return numericLSN(m.EndOfLog) })},
		field[M]{"mirroring_connection_timeout", tds.Int, mirrored(func(m M) any { return int64(m.Timeout) })},
		field[M]{"mirroring_redo_queue", tds.Int, nil},
		field[M]{"mirroring_redo_queue_type", tds.Text, mirrored(func(M) any { return "UNLIMITED" })},
	)
}

func (i *run) witnessesView() table {
	type W = model.Witnessed
	return view(i.model.Witnessed(),
		field[W]{"database_name", tds.Text, func(w W) any { return w.Database }},
		field[W]{"principal_server_name", tds.Text, func(w W) any { return w.Principal }},
		field[W]{"mirror_server_name", tds.Text, func(w W) any { return w.Mirror }},
		field[W]{"safety_level", tds.TinyInt, func(w W) any { return int64(w.Safety) }},
		field[W]{"safety_level_desc", tds.Text, func(w W) any { return w.SafetyDesc }},
		field[W]{"safety_sequence_number", tds.Int, nil},
		field[W]{"role_sequence_number", tds.Int, func(w W) any { return int64(w.RoleSequence) }},
		field[W]{"mirroring_guid", tds.GUID, func(w W) any { return w.GUID }},
		field[W]{"family_guid", tds.GUID, func(w W) any { return w.GUID }},
		field[W]{"is_suspended", tds.Bit, nil},
		field[W]{"partner_sync_state", tds.TinyInt, func(w W) any { return int64(w.PartnerSyncState) }},
		field[W]{"partner_sync_state_desc", tds.Text, func(w W) any { return w.PartnerSyncStateDesc }},
	)
}

// endpointName is what the mirroring endpoint of every instance is called.
const endpointName = "Mirroring"

type endpoint struct {
	role, state string
	port        int
}

func (i *run) endpointsView() table {
	type E = endpoint
	var all []E
	if role, state, port := i.model.EndpointState(); role != "" {
		all = append(all, E{role, state, port})
	}
	return view(all,
		field[E]{"name", tds.Text, func(E) any { return endpointName }},
		field[E]{"endpoint_id", tds.Int, func(E) any { return int64(65536) }},
		field[E]{"protocol_desc", tds.Text, func(E) any { return "TCP" }},
		field[E]{"type_desc", tds.Text, func(E) any { return "DATABASE_MIRRORING" }},
		field[E]{"role_desc", tds.Text, func(e E) any { return e.role }},
		field[E]{"state_desc", tds.Text, func(e E) any { return e.state }},
		field[E]{"port", tds.Int, func(e E) any { return int64(e.port) }},
	)
}
