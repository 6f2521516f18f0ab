//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A primary that runs when the agent is told to promote it is adopted as it runs: no session ends. Its commits
// are governed through witness/adopted.conf, which the rest file includes at its end, so that it stands last
// of all that the server's own configuration names.
//
// What lets commits go must not outlive the run (rule R10). So the rest file does not name the file by its
// path but through the running postmaster: /proc/PID/cwd is the data directory for as long as that process
// lives, and nothing afterwards. A start by anybody else, also while no agent runs and after the machine's
// own restart, finds no such file and holds all commits.
//
// What remains is a next postmaster with the same number. That is unlikely on a host, but likely in a container,
// whose processes are numbered from the start at each of its starts. Such a server reads the file, yet comes up
// as a copy, as any; commits go alone only if somebody then promotes it by hand before an agent has seen it. An
// agent that sees another run, which it tells by the instant of its start too, removes the file.
const adoptedFile = agentDir + "/adopted.conf"

// governed says whether the agent holds and releases the commits of this run.
func (r *run) governed() bool { return r.managed || r.adopted.Load() }

// adoptedPath is the adopted file as the processes of run r find it, and nobody else once r has ended.
func (r *run) adoptedPath() string {
	return "/proc/" + strconv.Itoa(r.pid) + "/cwd/" + adoptedFile
}

// runNote names the run that an adopted file is about.
func (r *run) runNote() string { return "# run " + r.id + "\n" }

// restTextNow is the rest file as it must be now: with the adopted file while an adopted run goes on.
func (e *Engine) restTextNow() string {
	r := e.adoptedRun()
	if r == nil {
		return restText()
	}
	return restText() + "include_if_exists " + quote(r.adoptedPath()) +
		" # for as long as this process lives: the agent adopted it as it ran\n"
}

// adoptedRun is the adopted server that runs and has not been asked to end, or nil.
func (e *Engine) adoptedRun() *run {
	e.mu.Lock()
	r := e.current
	e.mu.Unlock()
	if r == nil || !r.adopted.Load() || r.asked.Load() || !r.alive() {
		return nil
	}
	return r
}

// wasAdopted says whether an earlier agent has adopted run r.
func (e *Engine) wasAdopted(r *run) bool {
	text, err := os.ReadFile(e.path(adoptedFile))
	return err == nil && !r.managed && strings.Contains(string(text), r.runNote())
}

// forgetAdopted removes the adopted file of a run that has ended, and the line that names it. Whoever starts a
// server does so again; this is for the case that nobody does for a while. It may come late, and must not take
// the file of a run that was adopted meanwhile: so it holds gating alone, and beginAdopted holds it too. The
// caller holds neither gating nor adopting, which LetGo takes in this order.
func (e *Engine) forgetAdopted() {
	e.gating.Lock()
	defer e.gating.Unlock()
	if e.adoptedRun() != nil {
		return
	}
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return // Moved aside, or gone: then the file leads nowhere.
	}
	defer files.close()
	if err := e.dropAdopted(files); err != nil {
		e.log.Warn("settings of an ended run not removed; no other start reads them", slog.Any("error", err))
	}
}

func (e *Engine) dropAdopted(files *store) error {
	if !files.has(adoptedFile) {
		return nil
	}
	if files.has(restFile) {
		if err := files.ensure(restFile, []byte(e.restTextNow())); err != nil {
			return err
		}
	}
	return files.remove(adoptedFile)
}

// toPromote returns the server that is to be the primary: a running primary as it is, if it is fit, and else
// one that the agent has started.
func (e *Engine) toPromote(ctx context.Context) (*run, error) {
	r, err := e.server()
	if err != nil {
		return nil, err
	}
	if r != nil && r.adopted.Load() {
		// Here, or before this agent, the server may have been told to read the settings and not have done so.
		if err := e.takeAdopted(ctx, r); err != nil {
			return nil, fmt.Errorf("go on to adopt the running primary: %w", err)
		}
	}
	if r == nil || r.governed() {
		return e.running(ctx)
	}
	recovering, err := e.inRecovery(ctx, r)
	if err != nil || recovering {
		return e.running(ctx) // Started by somebody else, and serves nobody who writes.
	}
	unfit, err := e.adopt(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("adopt the running primary, which goes on as it was: %w", err)
	}
	if unfit == "" {
		return r, nil
	}
	e.log.WarnContext(ctx, "running primary cannot be adopted as it runs; it is restarted",
		slog.String("run", r.id), slog.String("why", unfit))
	return e.running(ctx)
}

// adopt begins to govern a primary that somebody else started. It returns why only a restart helps, or an
// error where a restart would not help either. It then goes on as it was: nothing was changed, or the server was
// told to read settings under which it treats commits as before, and the next call goes on from there.
func (e *Engine) adopt(ctx context.Context, r *run) (unfit string, err error) {
	began := now()
	unfit, err = e.fitToAdopt(ctx, r)
	if err != nil || unfit != "" {
		return unfit, err
	}
	held, err := e.holding(ctx, r)
	if err != nil {
		return "", err
	}
	err = e.adoptFiles(ctx, r, held)
	if errors.Is(err, errHidden) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	e.log.InfoContext(ctx, "running primary adopted as it runs; its sessions go on", slog.String("run", r.id),
		slog.String("synchronous_standby_names_until_now", held), slog.Duration("took", since(began)))
	return "", nil
}

// adoptFiles puts the gate and the adopted file in place, sees that they would win, and only then lets the
// server read them: commits go on as they were until they are held for the mirror. Until the server was told to
// read them, a failure undoes all.
func (e *Engine) adoptFiles(ctx context.Context, r *run, held string) error {
	if err := e.keepSettings(ctx, r); err != nil {
		return err
	}
	err := e.tryGate(ctx, r, func() error {
		if err := e.beginAdopted(r, held); err != nil {
			return err
		}
		return e.gateForCommits(ctx)
	})
	if err != nil {
		return err
	}
	return e.takeAdopted(ctx, r)
}

// beginAdopted writes how run r treats commits, and counts it as adopted.
func (e *Engine) beginAdopted(r *run, held string) error {
	e.gating.RLock()
	defer e.gating.RUnlock()
	err := e.writeAdopted(r, held)
	r.adopted.Store(err == nil)
	return err
}

// takeAdopted returns when an adopted server has read the agent's settings, and tells it to unless it has.
func (e *Engine) takeAdopted(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeoutCause(ctx, adoptPatience, errNotTaken)
	defer cancel()
	for told := false; ; {
		rows, err := e.acting.query(ctx, r, `select count(*) from pg_settings where
			name = 'synchronous_standby_names' and sourcefile = $1 or
			name = 'restart_after_crash' and setting = 'off'`, r.adoptedPath())
		if ctx.Err() != nil {
			return fmt.Errorf("reload with the agent's settings: %w", context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		if rows[0].text(0) == "2" {
			return nil
		}
		if !told {
			if err := e.gateForCommits(ctx); err != nil {
				return err
			}
			if err := r.signal(unix.SIGHUP); err != nil {
				return err
			}
			told = true
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("reload with the agent's settings: %w", err)
		}
	}
}

// keepSettings finds out, once for each run, what writeAdopted gives it.
func (e *Engine) keepSettings(ctx context.Context, r *run) (err error) {
	if r.kept == nil {
		r.kept, err = e.adoptedSettings(ctx, r)
	}
	return err
}

// writeAdopted sets how the adopted run treats commits, at its next reload. Beside that it gets the agent's
// defaults and the configuration's "settings", as far as a running server takes them (keepSettings).
func (e *Engine) writeAdopted(r *run, commits string) error {
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return err
	}
	defer files.close()
	if err := files.mkdir(agentDir); err != nil {
		return err
	}
	text := r.runNote() + "# Written by witness-agent for this run of the server, and read by no other.\n" +
		lines(r.kept) + lines([]setting{{"synchronous_standby_names", commits}})
	return files.write(adoptedFile, []byte(text), 0o600, false)
}

// adoptedSettings are those of the agent's settings that take effect without a restart: its defaults where
// the administrator has said nothing, and what its configuration says.
func (e *Engine) adoptedSettings(ctx context.Context, r *run) ([]setting, error) {
	rows, err := e.acting.query(ctx, r, `select name, source = 'default' or coalesce(sourcefile, '') = $1
		from pg_settings where context not in ('internal', 'postmaster')`, r.adoptedPath())
	if err != nil {
		return nil, err
	}
	free := map[string]bool{}
	for _, row := range rows {
		free[row.text(0)] = row.true(1)
	}
	kept := []setting{}
	for _, s := range defaultSettings() {
		if free[s.name] {
			kept = append(kept, s)
		}
	}
	for name, value := range e.cfg.Settings {
		if _, reloads := free[strings.ToLower(name)]; reloads {
			kept = append(kept, setting{name, value})
		}
	}
	slices.SortStableFunc(kept, func(a, b setting) int { return strings.Compare(a.name, b.name) })
	return kept, nil
}

// checkAdopted sees in the files, as the running server would read them now, that the agent's settings win,
// and that without the adopted file commits would be held for nobody.
func (e *Engine) checkAdopted(ctx context.Context, r *run) error {
	rows, err := e.acting.query(ctx, r, `select sourcefile, setting, coalesce((select setting from pg_file_settings
			where name = 'restart_after_crash' order by seqno desc limit 1), '')
		from pg_file_settings where name = 'synchronous_standby_names' order by seqno desc limit 2`)
	if err != nil {
		return err
	}
	switch {
	case len(rows) > 0 && rows[0].text(1) == heldForNobody && sameFile(rows[0].text(0), e.path(restFile)):
		return fmt.Errorf("%w: %s", errHidden, r.adoptedPath())
	case len(rows) == 0 || rows[0].text(0) != r.adoptedPath():
		where := "nowhere"
		if len(rows) > 0 {
			where = rows[0].text(0)
		}
		return fmt.Errorf("%w: synchronous_standby_names, which the agent must govern, is set last in %s; take it out "+
			"there, and keep the agent's include the last line of %s", errGateOpen, where, e.adminFile())
	case len(rows) < 2 || rows[1].text(1) != heldForNobody:
		return fmt.Errorf("%w: a start without the agent would acknowledge commits alone; keep the agent's include the "+
			"last line of %s", errGateOpen, e.adminFile())
	case rows[0].text(2) != "off":
		return fmt.Errorf("%w: restart_after_crash, which the agent must govern, is set after the agent's include; take "+
			"it out there, and keep the agent's include the last line of %s", errGateOpen, e.adminFile())
	}
	return nil
}

// errHidden says that a server does not see the file through which an adopted one is governed. One that the agent
// starts needs no such file.
var errHidden = errors.New("the server cannot read the agent's settings for this run")

// lookToAdopt is what decides whether a server can be adopted as it runs.
const lookToAdopt = `select current_setting('config_file'), current_setting('port'),
	current_setting('listen_addresses'), current_setting('wal_level'),
	current_setting('max_wal_senders'), current_setting('max_replication_slots'),
	(select count(*) from pg_replication_slots where slot_name not like 'witness\_%'),
	(select source from pg_settings where name = 'synchronous_standby_names'),
	(select coalesce(min(coalesce(sourcefile, '?') || ' line ' || coalesce(sourceline, 0) || ': ' || error), '')
		from pg_file_settings where error <> 'setting could not be applied'),
	exists (select from pg_file_settings where name = 'synchronous_standby_names'
		and sourcefile like '%/postgresql.auto.conf')`

// fitToAdopt says why a running primary must be restarted to become the pair's, or gives an error if a
// restart would not help, or end in a server that does not start.
func (e *Engine) fitToAdopt(ctx context.Context, r *run) (unfit string, err error) {
	rows, err := e.acting.query(ctx, r, lookToAdopt)
	if err != nil {
		return "", err
	}
	row := rows[0]
	if !sameFile(row.text(0), e.adminFile()) {
		return "", fmt.Errorf("it runs with %s, and the agent's configuration says %s; set config_file to the former",
			row.text(0), e.adminFile())
	}
	if wrong := row.text(8); wrong != "" {
		return "", fmt.Errorf("its configuration has an error, with which it would not start again: %s", wrong)
	}
	if row.true(9) {
		return "", errors.New("synchronous_standby_names is set in postgresql.auto.conf, which wins over the agent's " +
			"file; run ALTER SYSTEM RESET synchronous_standby_names")
	}
	if row.text(3) == "minimal" {
		return "", fmt.Errorf("wal_level is minimal, and a log written like that makes no copy start, not even the "+
			"server's own restart as one; set it to replica in %s (witness-agent doctor --fix does), restart the server, "+
			"and promote again", e.adminFile())
	}
	if source := row.text(7); source == "command line" {
		return "synchronous_standby_names is set on its command line", nil
	}
	if port := row.text(1); port != e.listenPort() {
		return fmt.Sprintf("it listens on port %s, and the configuration's listen says %s", port, e.listenPort()), nil
	}
	if !e.listensAsWanted(ctx, row.text(2)) {
		return fmt.Sprintf("its listen_addresses (%s) do not serve %s, which the configuration's listen says",
			row.text(2), e.listenHost()), nil
	}
	return e.fitToReplicate(ctx, row)
}

// fitToReplicate looks at what only a restart changes: it helps if the files have been changed already.
func (e *Engine) fitToReplicate(ctx context.Context, row values) (unfit string, err error) {
	slots, _ := strconv.Atoi(row.text(6))
	for _, need := range []struct {
		name, has string
		enough    func(string) bool
		want      string
	}{
		{"max_wal_senders", row.text(4), atLeast(leastSenders), "10"},
		{"max_replication_slots", row.text(5), atLeast(slots + 1), strconv.Itoa(slots + 10)},
	} {
		if need.enough(need.has) {
			continue
		}
		later, set := e.cfg.Settings[need.name]
		if !set {
			if later, err = e.plainValue(ctx, need.name); err != nil {
				return "", err
			}
		}
		if !need.enough(later) {
			return "", fmt.Errorf("%s is %s, too little for a mirror; set it to %s in %s (witness-agent doctor --fix "+
				"does) and promote again: it takes a restart, which is then done", need.name, need.has, need.want, e.adminFile())
		}
		return fmt.Sprintf("%s is %s, and will be %s after a restart", need.name, need.has, later), nil
	}
	return "", nil
}

// leastSenders is what a clone needs at the primary: one for the files and one for the log.
const leastSenders = 2

func atLeast(least int) func(string) bool {
	return func(text string) bool {
		n, err := strconv.Atoi(text)
		return err == nil && n >= least
	}
}

// listensAsWanted says whether a server with these listen_addresses is reached where the configuration says.
func (e *Engine) listensAsWanted(ctx context.Context, addresses string) bool {
	want := e.listenHost()
	var have []string
	for part := range strings.SplitSeq(addresses, ",") {
		have = append(have, strings.TrimSpace(part))
	}
	if slices.Contains(have, "*") || slices.Contains(have, want) {
		return true
	}
	if anyHost(want) {
		return false
	}
	wanted, err := lookup(ctx, want)
	if err != nil {
		return false
	}
	served := map[string]bool{}
	for _, host := range have {
		found, err := lookup(ctx, host)
		if err != nil {
			continue
		}
		for _, address := range found {
			served[address] = true
		}
	}
	// A name may stand for addresses of both kinds, of which hosts rarely serve all.
	return slices.ContainsFunc(wanted, func(address string) bool {
		ip := net.ParseIP(address)
		return served[address] || ip != nil && (ip.To4() != nil && served["0.0.0.0"] || ip.To4() == nil && served["::"])
	})
}

func lookup(ctx context.Context, host string) ([]string, error) {
	if net.ParseIP(host) != nil {
		return []string{host}, nil
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	one, err := filepath.EvalSymlinks(a)
	if err != nil {
		return false
	}
	other, err := filepath.EvalSymlinks(b)
	return err == nil && one == other
}

// adoptPatience is how long a server may take to read its configuration again.
const adoptPatience = 5 * time.Second

// restartable makes sure, before a server that somebody else started is stopped, that it can be started, and a
// primary also that it can become one again. If not, the server goes on and what was changed is undone: a gate
// that stays would at the next reload hold commits that nobody lets go.
func (e *Engine) restartable(ctx context.Context, r *run) error {
	dir, err := e.plainValue(ctx, "data_directory")
	if err != nil {
		return err
	}
	if !sameFile(dir, e.cfg.DataDir) {
		return fmt.Errorf("%s says data_directory = %s, and the agent's configuration data_dir %s; make them the "+
			"same", e.adminFile(), dir, e.cfg.DataDir)
	}
	return e.tryGate(ctx, r, func() error {
		if err := e.assureGate(); err != nil {
			return err
		}
		if recovering, err := e.inRecovery(ctx, r); err == nil && recovering {
			return nil // It serves nobody who writes, and as a copy it is of use.
		}
		return e.checkRest(ctx)
	})
}

// adoptionWarning is what an operator should know of an adopted run, for State.Warning.
func (e *Engine) adoptionWarning(ctx context.Context, r *run, ask asker) string {
	if !r.adopted.Load() {
		return ""
	}
	rows, err := ask(ctx, `select current_setting('wal_log_hints') = 'off' and
		current_setting('data_checksums') = 'off', current_setting('unix_socket_directories')`)
	if err != nil {
		return ""
	}
	var found []string
	if rows[0].true(0) {
		found = append(found, "adopted as it runs, without data checksums or wal_log_hints: if it is lost and comes "+
			"back it is cloned, not rewound; the agent's next start of it has wal_log_hints on")
	}
	if dirs := rows[0].text(1); dirs != e.cfg.SocketDir {
		found = append(found, fmt.Sprintf("its sockets are in %s, and will be in %s (socket_dir) after the agent's next "+
			"start of it", dirs, e.cfg.SocketDir))
	}
	return strings.Join(found, "; ")
}

// logicalWarning warns of logical slots: PostgreSQL before 17 does not copy them to a mirror.
func (e *Engine) logicalWarning(ctx context.Context, _ *run, ask asker) string {
	rows, err := ask(ctx, logicalSlots)
	if err != nil || rows[0].text(0) == "" {
		return ""
	}
	return slotsLost(rows[0].text(0))
}

// logicalSlots is what a primary has that its mirror will not have.
const logicalSlots = `select coalesce(string_agg(slot_name, ', ' order by slot_name), '')
	from pg_replication_slots where slot_type = 'logical' and not temporary`

// slotsLost says what becomes of logical slots.
func slotsLost(names string) string {
	return "logical slots (" + names + ") stay behind at a failover or switchover: their subscribers must make them " +
		"anew at the new primary and copy again what they missed"
}
