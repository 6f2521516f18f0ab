package sqlservertest

import (
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// counter is a row of sys.dm_os_performance_counters.
type counter struct {
	object, name, database string
	value                  int64
}

// totals are the counters that count up, by database. They grow by the rate that the model tells at the time of a look.
type totals struct {
	at     time.Time
	redone map[string]int64
	sent   map[string]model.LSN
	bytes  map[string]int64
}

// note adds what has been done since the last look.
func (t *totals) note(all []model.Mirroring, at time.Time) {
	if t.redone == nil {
		*t = totals{at: at, redone: map[string]int64{}, sent: map[string]model.LSN{}, bytes: map[string]int64{}}
	}
	passed := at.Sub(t.at)
	t.at = at
	for _, m := range all {
		t.redone[m.Database] += int64(float64(m.RedoRateKB<<10) * passed.Seconds())
		before, ok := t.sent[m.Database]
		if m.RoleDesc == "PRINCIPAL" && ok {
			const block = 512
			t.bytes[m.Database] += max(0, int64(m.FailoverLSN.Block)-int64(before.Block)) * block
		}
		t.sent[m.Database] = m.FailoverLSN
	}
}

// countersView pads texts to their fixed width, as the real view does.
func (i *run) countersView() table {
	const mirroring, databases, width = "SQLServer:Database Mirroring", "SQLServer:Databases", 128
	var all []counter
	sessions := i.model.Mirroring()
	i.mu.Lock()
	i.totals.note(sessions, time.Now())
	for _, m := range sessions {
		if m.GUID == "" {
			continue
		}
		all = append(all,
			counter{mirroring, "Redo Queue KB", m.Database, m.RedoQueueKB},
			counter{mirroring, "Log Send Queue KB", m.Database, m.SendQueueKB},
			counter{mirroring, "Redo Bytes/sec", m.Database, i.totals.redone[m.Database]},
			counter{mirroring, "Log Bytes Sent/sec", m.Database, i.totals.bytes[m.Database]},
			counter{mirroring, "Transaction Delay", m.Database, 0})
	}
	i.mu.Unlock()
	for _, d := range i.databases() {
		all = append(all, counter{databases, "Percent Log Used", d.Name, i.knobs.logUsed(d.Name)})
	}
	wide := func(s string) any { return fmt.Sprintf("%-*s", width, s) }
	type C = counter
	return view(all,
		field[C]{"object_name", tds.Text, func(c C) any { return wide(c.object) }},
		field[C]{"counter_name", tds.Text, func(c C) any { return wide(c.name) }},
		field[C]{"instance_name", tds.Text, func(c C) any { return wide(c.database) }},
		field[C]{"cntr_value", tds.BigInt, func(c C) any { return c.value }},
	)
}

// The components of sp_server_diagnostics.
func components() []string {
	return []string{"system", "resource", "query_processing", "io_subsystem", "events"}
}

// diagnostics is the result of sp_server_diagnostics.
func (i *run) diagnostics() tds.Result {
	r := tds.Result{Columns: []tds.Column{
		{Name: "create_time", Kind: tds.DateTime}, {Name: "component_type", Kind: tds.Text},
		{Name: "component_name", Kind: tds.Text}, {Name: "state", Kind: tds.Int},
		{Name: "state_desc", Kind: tds.Text}, {Name: "data", Kind: tds.Text},
	}}
	for _, name := range components() {
		state := i.knobs.component(name)
		code := map[string]int64{"unknown": 0, "clean": 1, "warning": 2, "error": 3}[state]
		r.Rows = append(r.Rows, []any{time.Now(), "instance", name, code, state, "<" + name + "/>"})
	}
	return r
}
