//go:build linux

package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// need is one setting that a pair needs.
type need struct {
	name string
	// judge says how good a value is, and what of it is to be known; more is true for what the agent's own starts
	// set right.
	judge func(value string) (engine.Grade, string)
	// want is what to set it to, and what --fix sets; "" if that is the administrator's affair.
	want string
	do   string // instead of setting it to want
}

// needs are the settings, in the order in which they are shown.
func needs() []need {
	return []need{
		{name: "wal_level", want: "replica", judge: func(v string) (engine.Grade, string) {
			return grade(v != "minimal", engine.Bad), "a mirror needs replica or logical"
		}},
		{name: "max_wal_senders", want: "10", judge: func(v string) (engine.Grade, string) {
			return graded(v, leastSenders, 4), "a clone takes 2, the mirror 1, and one that is given up lingers"
		}},
		{name: "max_replication_slots", want: "10", judge: func(v string) (engine.Grade, string) {
			return graded(v, 1, 2), "the mirror takes 1"
		}},
		{name: "max_slot_wal_keep_size", want: "8GB", judge: func(v string) (engine.Grade, string) {
			return grade(v != "-1", engine.Weak), "without a limit a lost mirror's slot fills the disk"
		}},
		{name: "hot_standby", judge: func(v string) (engine.Grade, string) {
			return grade(v == "on", engine.Weak), "the agent's own starts have it on"
		}},
		{name: "superuser_reserved_connections", want: "3", judge: func(v string) (engine.Grade, string) {
			return graded(v, 1, 3), "the agent keeps connections, and needs one when clients have taken all others"
		}},
		{name: "fsync", do: "set it to on", judge: func(v string) (engine.Grade, string) {
			return grade(v == "on", engine.Bad), "without it a crash loses what was acknowledged, or the whole database"
		}},
		{name: "full_page_writes", do: "set it to on", judge: func(v string) (engine.Grade, string) {
			return grade(v == "on", engine.Bad), "without it a crash may leave torn pages, and a rewind does not work"
		}},
		{name: "restart_after_crash", judge: func(string) (engine.Grade, string) {
			return engine.Good, "off as long as the agent governs the server: it decides who goes on after a crash"
		}},
		{name: "archive_mode", do: "have the archive commands of both hosts refuse to overwrite",
			judge: func(v string) (engine.Grade, string) {
				return grade(v == "off", engine.Weak), "after a failover the other host archives, on a new timeline"
			}},
	}
}

func grade(right bool, otherwise engine.Grade) engine.Grade {
	if right {
		return engine.Good
	}
	return otherwise
}

func graded(value string, least, enough int) engine.Grade {
	switch {
	case !atLeast(least)(value):
		return engine.Bad
	case !atLeast(enough)(value):
		return engine.Weak
	default:
		return engine.Good
	}
}

func (x *examiner) checkNeeds(ctx context.Context) {
	for _, n := range needs() {
		value, err := x.setting(ctx, n.name)
		if err != nil {
			x.bad(n.name, "see the message", "%s", firstLine(err))
			continue
		}
		g, why := n.judge(value)
		if g == engine.Weak && x.ownDefault(ctx, n.name) {
			g = engine.Good
			why = "the agent sets what nobody else has set"
		}
		check := engine.Check{Name: n.name, Grade: g, Detail: value}
		if g != engine.Good {
			check.Detail, check.Do = value+": "+why, n.do
			if n.want != "" {
				check.Do = fmt.Sprintf("set it to %s (--fix does); %s", n.want, x.takesEffect(n.name))
			}
		}
		x.found = append(x.found, check)
	}
	x.checkRewindable(ctx)
}

// ownDefault says whether the agent's own starts set this because nobody else does. In a server that runs the
// answer is in the value itself.
func (x *examiner) ownDefault(ctx context.Context, name string) bool {
	if x.run == nil || x.run.governed() {
		return false
	}
	rows, err := x.ask(ctx, "select source = 'default' from pg_settings where name = $1", name)
	if err != nil || len(rows) == 0 || !rows[0].true(0) {
		return false
	}
	for _, s := range defaultSettings() {
		if s.name == name {
			return true
		}
	}
	return false
}

func (x *examiner) takesEffect(name string) string {
	switch name {
	case "max_slot_wal_keep_size":
		return "a reload will do"
	default:
		return "it takes a restart of the server"
	}
}

func (x *examiner) checkRewindable(ctx context.Context) {
	const name = "rewind"
	hints, err := x.setting(ctx, "wal_log_hints")
	if err != nil {
		x.bad(name, "see the message", "%s", firstLine(err))
		return
	}
	c, err := x.readControl(ctx, x.cfg.DataDir)
	switch {
	case err == nil && c.rewindable:
		x.good(name, "pg_rewind can mend a diverged copy")
	case hints == "on":
		x.weak(name, "nothing: it counts from the next start", "wal_log_hints is on, but the data was written without")
	default:
		x.weak(name, "set wal_log_hints to on (--fix does; it takes a restart, and the agent's own starts have it on), or "+
			"enable data checksums", "neither data checksums nor wal_log_hints: a host that was lost is cloned, not rewound")
	}
}

// checkStopped looks at what the files of a stopped server tell.
func (x *examiner) checkStopped(ctx context.Context) {
	c, err := x.readControl(ctx, x.cfg.DataDir)
	if err != nil {
		x.bad("server", "see the message", "%s", firstLine(err))
		return
	}
	x.good("server", "does not run; it was %s (system %s)", c.state, c.systemID)
	x.checkNeeds(ctx)
}

// checkServer asks a running server.
func (x *examiner) checkServer(ctx context.Context, partner string) {
	role := "primary"
	if x.copy {
		role = "mirror"
	}
	version, _ := x.setting(ctx, "server_version")
	x.good("server", "runs as %s, version %s", role, version)
	rows, err := x.ask(ctx, "select usesuper from pg_user where usename = current_user")
	switch {
	case err != nil:
		x.bad("connection", "see the message", "%s", firstLine(err))
		return
	case len(rows) == 0 || !rows[0].true(0):
		x.bad("connection", "set superuser to a role that is one", "%s is not a superuser", x.cfg.Superuser)
	default:
		x.good("connection", "%s gets in over the socket", x.cfg.Superuser)
	}
	if _, err := x.identifySelf(ctx, x.run); hasCode(err, codeNotLetIn) {
		x.bad("local replication", "pg_hba.conf: local replication "+x.cfg.Superuser+" peer, in front of what refuses "+
			"(--fix adds it at the end)", "%s", firstLine(err))
	} else if err != nil {
		x.bad("local replication", "see the message", "%s", firstLine(err))
	} else {
		x.good("local replication", "%s gets in over the socket", x.cfg.Superuser)
	}
	x.checkNeeds(ctx)
	x.checkAutoConf(ctx)
	x.checkDurable(ctx)
	x.checkRole(ctx)
	x.checkHBA(ctx, partner)
	x.checkLeftBehind(ctx)
	if !x.copy {
		x.checkAdoption(ctx)
	}
}

// checkAdoption says what a first promotion by the agent will do.
func (x *examiner) checkAdoption(ctx context.Context) {
	const name = "adoption"
	if x.run.managed {
		x.good(name, "started by the agent")
		return
	}
	if x.run.adopted.Load() {
		x.good(name, "adopted as it runs")
		return
	}
	unfit, err := x.fitToAdopt(ctx, x.run)
	switch {
	case err != nil:
		x.bad(name, "see the message", "cannot be taken over: %s", firstLine(err))
	case unfit != "":
		x.weak(name, "mend that for an adoption without a restart", "will be restarted once, because %s", unfit)
	default:
		x.good(name, "can be adopted as it runs, no session ends")
	}
}

// checkAutoConf looks for settings that would win over the agent's.
func (x *examiner) checkAutoConf(ctx context.Context) {
	const name = "ALTER SYSTEM"
	rows, err := x.ask(ctx, `select name from pg_file_settings where sourcefile like '%/postgresql.auto.conf'
		and name = any ($1::text[]) order by name`, "{"+strings.Join(managedSettings(), ",")+"}")
	if err != nil {
		x.bad(name, "see the message", "%s", firstLine(err))
		return
	}
	var names []string
	for _, row := range rows {
		names = append(names, row.text(0))
	}
	if len(names) > 0 {
		do := "run ALTER SYSTEM RESET for each"
		if !x.copy {
			do += " (--fix does for primary_conninfo and primary_slot_name)"
		}
		x.bad(name, do, "%s in postgresql.auto.conf, which wins over the agent's file", strings.Join(names, ", "))
		return
	}
	x.good(name, "nothing in postgresql.auto.conf stands against the agent's settings")
}

func (x *examiner) checkDurable(ctx context.Context) {
	const name = "durability"
	if traps, err := durabilityTraps(ctx, x.ask); err != nil {
		x.bad(name, "see the message", "%s", firstLine(err))
	} else if len(traps) > 0 {
		x.weak(name, "set synchronous_commit to on there, or know what it means: docs/guarantees.md", "%s",
			strings.Join(traps, "; "))
	} else {
		x.good(name, "commits wait for the mirror's disk unless a session asks otherwise")
	}
	names, err := x.setting(ctx, "synchronous_standby_names")
	if err == nil && !x.run.governed() && !x.copy && names != notHeld && names != heldForNobody {
		x.weak("synchronous standbys", "know that: other standbys go on, but no commit waits for them any more",
			"commits wait for %s now; the agent sets synchronous_standby_names for the pair's mirror alone", names)
	}
}

// leftBehind is what a failover does not take along.
const leftBehind = `select
	(select coalesce(string_agg(slot_name, ', ' order by slot_name), '')
		from pg_replication_slots where slot_type = 'logical' and not temporary),
	(select count(*) from pg_class where relpersistence = 'u' and relkind = 'r'),
	(select count(*) from pg_prepared_xacts),
	(select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global')),
	(select coalesce(string_agg(slot_name, ', ' order by slot_name), '')
		from pg_replication_slots where slot_type = 'physical' and slot_name not like 'witness\_%')`

func (x *examiner) checkLeftBehind(ctx context.Context) {
	rows, err := x.ask(ctx, leftBehind)
	if err != nil {
		x.bad("left behind", "see the message", "%s", firstLine(err))
		return
	}
	row := rows[0]
	if names := row.text(0); names != "" {
		x.weak("logical slots", "plan for it", "%s", slotsLost(names))
	}
	if n := row.text(1); n != "0" {
		x.weak("unlogged tables", "alter table ... set logged, for those whose rows matter",
			"%s in database %s: they are empty after a failover", n, x.cfg.Database)
	}
	if n := row.text(2); n != "0" {
		x.weak("prepared transactions", "commit them or roll them back, if nobody else will",
			"%s wait: they hold locks here, and after a failover there", n)
	}
	if names := row.text(4); names != "" {
		x.weak("other slots", "make them again at the new primary after a failover",
			"%s: the mirror does not have them", names)
	}
	if n := row.text(3); n != "0" {
		x.weak("tablespaces", "keep room for them on the mirror too",
			"%s beside the default ones", n)
	}
}

// checkSpace compares the size of the database with the room for a second copy.
func (x *examiner) checkSpace(ctx context.Context, data engine.Data, partner string) {
	const name = "space for a clone"
	var disk unix.Statfs_t
	dir := x.cfg.DataDir
	if _, err := os.Stat(dir); err != nil {
		dir = dir[:strings.LastIndexByte(dir, '/')+1]
	}
	if err := unix.Statfs(dir, &disk); err != nil {
		x.bad(name, "see the message", "%v", err)
		return
	}
	free := disk.Bavail * uint64(disk.Bsize)
	size, err := x.databaseSize(ctx, data, partner)
	switch {
	case err != nil:
		x.weak(name, "compare it with the size of the primary", "%s free; the size of the database is not known: %s",
			bytesText(free), firstLine(err))
	case free < size+size/10:
		x.weak(name, "make room, or a mirror that must be cloned is not", "%s free, and a copy takes %s",
			bytesText(free), bytesText(size))
	default:
		x.good(name, "%s free, a copy takes %s", bytesText(free), bytesText(size))
	}
}

const sizeSQL = "select sum(pg_database_size(oid))::bigint from pg_database where datallowconn"

func (x *examiner) databaseSize(ctx context.Context, data engine.Data, partner string) (uint64, error) {
	var rows []values
	var err error
	switch {
	case x.run != nil:
		rows, err = x.ask(ctx, sizeSQL)
	case partner != "":
		conn, dialErr := x.dialPartner(ctx, partner, x.cfg.Database, false)
		if dialErr != nil {
			return 0, dialErr
		}
		defer closeConn(ctx, conn)
		rows, err = query(ctx, conn, sizeSQL)
	case data == engine.DataPresent:
		return dirSize(ctx, x.cfg.DataDir)
	default:
		return 0, errNoPartner
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(rows[0].text(0), 10, 64)
}
