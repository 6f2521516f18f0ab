//go:build linux

package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// trapsSQL lists what makes commits of some sessions be acknowledged before the mirror has them on disk.
const trapsSQL = `
select coalesce(quote_ident(r.rolname), ''), coalesce(quote_ident(d.datname), ''),
	lower(substr(c, strpos(c, '=') + 1))
from pg_db_role_setting s
cross join unnest(s.setconfig) c
left join pg_roles r on r.oid = s.setrole
left join pg_database d on d.oid = s.setdatabase
where lower(split_part(c, '=', 1)) = 'synchronous_commit'
	and lower(substr(c, strpos(c, '=') + 1)) not in ('on', 'true', 'yes', '1', 'remote_apply')
order by 1, 2`

// trapsNamed is how many roles and databases are named; a sentence of a thousand is read by nobody.
const trapsNamed = 5

// serverTrap says what is wrong if commits of all sessions that set nothing themselves are acknowledged before
// the mirror has them on disk, or "". The engine's own connections have another value, so the files are asked
// what clients begin with.
func serverTrap(ctx context.Context, ask asker) (string, error) {
	rows, err := ask(ctx,
		"select lower(setting), sourcefile from pg_file_settings where name = 'synchronous_commit' and applied")
	if err != nil {
		return "", err
	}
	for _, row := range rows {
		switch v := row.text(0); v {
		case "on", "true", "yes", "1", "remote_apply":
		default:
			return fmt.Sprintf("synchronous_commit is %s for all sessions, so commits are acknowledged before the "+
				"mirror has them; set it to on in %s", v, row.text(1)), nil
		}
	}
	return "", nil
}

// durabilityTraps names everything by which a commit would be acknowledged although a crash, or a failover,
// can lose it: one sentence each, with what to do. What a session sets for itself can be seen by nobody else.
func durabilityTraps(ctx context.Context, ask asker) ([]string, error) {
	var traps []string
	whole, err := serverTrap(ctx, ask)
	if err != nil {
		return nil, err
	}
	if whole != "" {
		traps = append(traps, whole)
	}
	rows, err := ask(ctx, trapsSQL)
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		if i == trapsNamed {
			traps = append(traps, fmt.Sprintf("%d more roles or databases have synchronous_commit below on; see "+
				"pg_db_role_setting", len(rows)-i))
			break
		}
		traps = append(traps, roleTrap(row.text(0), row.text(1), row.text(2)))
	}
	rows, err = ask(ctx, "select name from pg_settings where name in ('fsync', 'full_page_writes') "+
		"and setting = 'off' order by name")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		traps = append(traps, row.text(0)+" is off, so a crash of this host can lose or spoil what it has "+
			"confirmed; set it to on")
	}
	return traps, nil
}

// roleTrap is the sentence about a setting of a role, of a database, or of a role in a database.
func roleTrap(role, database, value string) string {
	whose, statement := "", ""
	switch {
	case role == "" && database == "":
		whose, statement = "all roles", "ALTER ROLE ALL"
	case role == "":
		whose, statement = "database "+database, "ALTER DATABASE "+database
	case database == "":
		whose, statement = "role "+role, "ALTER ROLE "+role
	default:
		whose = "role " + role + " in database " + database
		statement = "ALTER ROLE " + role + " IN DATABASE " + database
	}
	return fmt.Sprintf("synchronous_commit is %s for %s, whose commits are acknowledged before the mirror has "+
		"them on disk; run %s RESET synchronous_commit", value, whose, statement)
}

// trapsEvery is how old the traps shown may be.
const trapsEvery = 30 * time.Second

// knownTraps is what a run was last found to have. Only the one goroutine that asks for warnings uses it.
type knownTraps struct {
	run   string
	asked time.Time
	text  string
}

// durabilityWarning warns of traps on a primary. A copy has the same roles, and is not the place to mend them.
func (e *Engine) durabilityWarning(ctx context.Context, r *run, ask asker) string {
	if e.traps.run == r.id && now().Sub(e.traps.asked) < trapsEvery {
		return e.traps.text
	}
	rows, err := ask(ctx, "select pg_is_in_recovery()")
	if err != nil || rows[0].true(0) {
		return ""
	}
	traps, err := durabilityTraps(ctx, ask)
	if err != nil {
		return ""
	}
	e.traps = knownTraps{run: r.id, asked: now(), text: strings.Join(traps, "; ")}
	return e.traps.text
}
