package mirroring

import (
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// database is one database of the unit, as one look shows it.
type database struct {
	sqlserver.MirroringRow // of one that is not mirrored, only the name and the state of the database
	mirrored               bool
}

func (d database) principal() bool { return d.mirrored && d.Role == sqlserver.RolePrincipal }
func (d database) mirror() bool    { return d.mirrored && d.Role == sqlserver.RoleMirror }

// alone says that the database is not mirrored and that whoever connects can write to it.
func (d database) alone() bool { return !d.mirrored && d.DatabaseState == sqlserver.DatabaseOnline }

// safe says that what clients are told of is on the mirror's disk.
func (d database) safe() bool {
	return d.mirrored && d.State == sqlserver.StateSynchronized && d.Safety == sqlserver.SafetyIsFull
}

// look is what was read of the instance at one time.
type look struct {
	began   time.Time // nothing in it is older
	run     string    // of the process
	started string    // of the instance, by its own word
	unit    []database
	others  []string // databases of users that are not in the unit
	rows    []sqlserver.DatabaseRow
	joined  map[string]time.Time // when each session last had this host as its connected mirror, in this run
}

// unitOf picks the databases that move together out of what an instance shows: those that are configured, in their
// order, or all that are mirrored, by name.
func unitOf(cfg sqlserver.Config, rows []sqlserver.MirroringRow, all []sqlserver.DatabaseRow) []database {
	var unit []database
	if len(cfg.Databases) == 0 {
		for _, row := range cfg.Unit(rows) {
			unit = append(unit, database{MirroringRow: row, mirrored: true})
		}
		return unit
	}
	for _, name := range cfg.Databases {
		unit = append(unit, find(name, rows, all))
	}
	return unit
}

// find is one database by its name.
func find(name string, rows []sqlserver.MirroringRow, all []sqlserver.DatabaseRow) database {
	for _, row := range rows {
		if strings.EqualFold(row.Database, name) {
			return database{MirroringRow: row, mirrored: true}
		}
	}
	d := database{MirroringRow: sqlserver.MirroringRow{Database: name}}
	for _, row := range all {
		if strings.EqualFold(row.Name, name) {
			d.Database, d.DatabaseState = row.Name, row.State
		}
	}
	return d
}

// othersOf are the databases that a fence of this unit ends although they are not in it.
func othersOf(unit []database, all []sqlserver.DatabaseRow) []string {
	var others []string
	for _, row := range all {
		if slices.Contains([]string{"master", "tempdb", "model", "msdb"}, strings.ToLower(row.Name)) {
			continue
		}
		if !slices.ContainsFunc(unit, func(d database) bool { return strings.EqualFold(d.Database, row.Name) }) {
			others = append(others, row.Name)
		}
	}
	slices.Sort(others)
	return others
}

// systemID names what both hosts hold copies of; "" if a database has no session.
func systemID(unit []database) string {
	var rows []sqlserver.MirroringRow
	for _, d := range unit {
		if !d.mirrored {
			return ""
		}
		rows = append(rows, d.MirroringRow)
	}
	return sqlserver.MirroringID(rows)
}

// all says whether every database is so; of no databases nothing is.
func (l look) all(is func(database) bool) bool {
	return len(l.unit) > 0 && !slices.ContainsFunc(l.unit, func(d database) bool { return !is(d) })
}

// these are the names of the databases that are so, in order.
func (l look) these(is func(database) bool) []string {
	var names []string
	for _, d := range l.unit {
		if is(d) {
			names = append(names, d.Database)
		}
	}
	return names
}

// split says that some are principal here and some are mirror.
func (l look) split() bool {
	return len(l.these(database.principal)) > 0 && len(l.these(database.mirror)) > 0
}

// ends is how far each database's log is on this host's disk.
func (l look) ends() sqlserver.Vector {
	return l.vector(func(d database) sqlserver.LSN { return d.EndOfLog })
}

// common is how far each database's log is on both disks.
func (l look) common() sqlserver.Vector {
	return l.vector(func(d database) sqlserver.LSN { return d.FailoverLSN })
}

func (l look) vector(of func(database) sqlserver.LSN) sqlserver.Vector {
	v := sqlserver.Vector{}
	for _, d := range l.unit {
		if d.mirrored {
			v[d.Database] = of(d)
		}
	}
	return v
}

// exchanges counts the exchanges of roles, over all databases: positions of different counts are not compared.
func (l look) exchanges() uint64 {
	total := uint64(1)
	for _, d := range l.unit {
		total += uint64(max(0, d.RoleSequence))
	}
	return total
}

// states are the unit's rows of sys.databases.
func (l look) states() []sqlserver.DatabaseRow {
	var rows []sqlserver.DatabaseRow
	for _, row := range l.rows {
		if _, ok := l.one(row.Name); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// timeout is the shortest and the longest PARTNER TIMEOUT of the unit.
func (l look) timeout() (least, most time.Duration) {
	for i, d := range l.unit {
		if i == 0 || d.Timeout < least {
			least = d.Timeout
		}
		most = max(most, d.Timeout)
	}
	return least, most
}

// one is a database of the look by its name.
func (l look) one(name string) (database, bool) {
	for _, d := range l.unit {
		if strings.EqualFold(d.Database, name) {
			return d, true
		}
	}
	return database{}, false
}

// names lists databases in a sentence.
func names(list []string) string { return strings.Join(list, ", ") }
