//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

var errNoPartner = errors.New("the partner's address is not known; give it with --partner")

// dirSize is what a directory takes on its disk.
func dirSize(ctx context.Context, dir string) (uint64, error) {
	var sum uint64
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err == nil && unix.Lstat(path, &s) == nil {
			sum += uint64(s.Blocks) * 512
		}
		return ctx.Err() // What has just been deleted is no matter.
	})
	return sum, err
}

// rewindRights are the functions that pg_rewind calls at the partner.
func rewindRights() []string {
	return []string{"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)"}
}

// roleSQL looks at the replication role: what it is, and how many of the rights that a rewind needs it lacks.
const roleSQL = `select rolcanlogin, rolreplication or rolsuper,
	pg_has_role(rolname, 'pg_checkpoint', 'usage') or rolsuper,
	(select count(*) from unnest($2::text[]) f where not has_function_privilege(rolname, 'pg_catalog.' || f, 'execute')),
	has_database_privilege(rolname, $3, 'connect')
	from pg_roles where rolname = $1`

func (x *examiner) roleRow(ctx context.Context) (values, error) {
	var quoted []string
	for _, f := range rewindRights() {
		quoted = append(quoted, `"`+f+`"`)
	}
	rows, err := x.ask(ctx, roleSQL, x.cfg.ReplicationUser, "{"+strings.Join(quoted, ",")+"}", x.cfg.Database)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

func (x *examiner) checkRole(ctx context.Context) {
	const name = "replication role"
	row, err := x.roleRow(ctx)
	do := "on the primary: witness-agent doctor --fix"
	switch {
	case err != nil:
		x.bad(name, "see the message", "%s", firstLine(err))
	case row == nil:
		x.bad(name, do, "there is no role %s", x.cfg.ReplicationUser)
	case !row.true(0) || !row.true(1):
		x.bad(name, do, "%s lacks LOGIN or REPLICATION", x.cfg.ReplicationUser)
	case !row.true(2) || row.text(3) != "0":
		x.weak(name, do, "%s may replicate, but lacks rights that pg_rewind needs (pg_checkpoint, %s)",
			x.cfg.ReplicationUser, strings.Join(rewindRights(), ", "))
	case !row.true(4):
		x.weak(name, "grant connect on database "+x.cfg.Database, "%s may not connect to %s, which a rewind needs",
			x.cfg.ReplicationUser, x.cfg.Database)
	default:
		x.good(name, "%s may replicate and rewind", x.cfg.ReplicationUser)
	}
}

// checkPartner connects to the partner as the mirror would.
func (x *examiner) checkPartner(ctx context.Context, partner string, data engine.Data) {
	const name = "partner"
	conn, err := x.dialPartner(ctx, partner, x.cfg.Database, true)
	var refused *net.OpError
	switch {
	case errors.As(err, &refused) && errors.Is(err, unix.ECONNREFUSED):
		x.weak(name, "nothing, if it was not cloned yet or is stopped; else look at its listen_addresses",
			"nothing listens at %s", partner)
		return
	case codeOf(err) == "28P01", codeOf(err) == "28000":
		x.bad(name, "give both hosts the same password file, and both servers hba lines for each other (--fix there)",
			"%s", firstLine(err))
		return
	case err != nil:
		x.bad(name, "look at the network, and at the partner's log", "%s", strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	defer closeConn(ctx, conn)
	x.good(name, "%s lets %s in for replication", partner, x.cfg.ReplicationUser)
	id, err := identify(ctx, conn)
	if err != nil {
		x.bad(name, "see the message", "%s", firstLine(err))
		return
	}
	x.checkSystem(ctx, id, data)
	x.checkVersions(ctx, conn.ParameterStatus("server_version"))
	x.checkPartnerDatabase(ctx, partner)
}

func (x *examiner) checkSystem(ctx context.Context, id identity, data engine.Data) {
	const name = "system identifier"
	if data != engine.DataPresent {
		x.good(name, "the partner's is %s", id.systemID)
		return
	}
	own, err := x.readControl(ctx, x.cfg.DataDir)
	switch {
	case err != nil:
		x.bad(name, "see the message", "%s", firstLine(err))
	case own.systemID != id.systemID:
		x.bad(name, "on the host that shall be the mirror: stop the server and empty the data directory (for a new Debian "+
			"cluster, delete what is in it)", "this host holds %s, the partner %s: another database", own.systemID, id.systemID)
	default:
		x.good(name, "%s on both hosts", own.systemID)
	}
}

func (x *examiner) checkVersions(ctx context.Context, theirs string) {
	const name = "versions"
	own, err := x.programVersion(ctx)
	fields := strings.Fields(theirs)
	switch {
	case err != nil || len(fields) == 0:
		x.weak(name, "compare them", "own %q, partner %q", own, theirs)
	case majorOf(own) != majorOf(fields[0]):
		x.bad(name, "install the same major version on both hosts", "%s here, %s there", own, fields[0])
	case own != fields[0]:
		x.weak(name, "bring both to the newer one, the mirror first", "%s here, %s there", own, fields[0])
	default:
		x.good(name, "%s on both hosts", own)
	}
}

// checkPartnerDatabase connects as pg_rewind would, and compares the clocks.
func (x *examiner) checkPartnerDatabase(ctx context.Context, partner string) {
	const name = "rewind from the partner"
	conn, err := x.dialPartner(ctx, partner, x.cfg.Database, false)
	if err != nil {
		x.weak(name, "there: an hba line for database "+x.cfg.Database+" (--fix does)", "%s",
			strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	defer closeConn(ctx, conn)
	began := now()
	rows, err := query(ctx, conn, `select extract(epoch from clock_timestamp()) * 1000,
		pg_has_role('pg_checkpoint', 'usage') and has_function_privilege('pg_read_binary_file(text)', 'execute')`)
	took := since(began)
	if err != nil {
		x.weak(name, "see the message", "%s", firstLine(err))
		return
	}
	if rows[0].true(1) {
		x.good(name, "%s may read there what a rewind needs", x.cfg.ReplicationUser)
	} else {
		x.weak(name, "on the primary: witness-agent doctor --fix", "%s may not read there what a rewind needs",
			x.cfg.ReplicationUser)
	}
	var ms float64
	if _, err := fmt.Sscan(rows[0].text(0), &ms); err != nil {
		return
	}
	ahead := time.UnixMilli(int64(ms)).Sub(began.Add(took / 2)).Round(time.Millisecond)
	if ahead.Abs() > clockTolerance+took {
		x.weak("clock", "run a time service on both hosts; no decision rests on it, but logs and timestamps do",
			"the partner's is %v ahead", ahead)
		return
	}
	x.good("clock", "the partner's is within %v", clockTolerance+took.Round(time.Millisecond))
}

// clockTolerance is how far two hosts' clocks may be apart without a word.
const clockTolerance = time.Second
