//go:build linux

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// LetGo gives a primary back to its administrator: one that runs, or one that does not run and was a primary
// when it last did. It must only be asked for when nobody else can take over, because after it any start
// comes up as a primary that acknowledges commits alone. It may be repeated.
//
// A copy is left as it is, gate and all, and so is a directory without a whole database: it may lack what its
// primary has acknowledged, and must not become a primary because somebody starts it, nor acknowledge
// commits because somebody promotes it. Who wants to use it all the same deletes the agent's include line
// from its configuration, stops it and deletes standby.signal.
//
// The order is that of least harm if the agent or the host dies on the way:
//
//  1. Commits go alone, in the running server only. Nobody waits for the mirror from here on.
//  2. The slot goes. Done later it might stay, with nobody left to do it, and keep the log until the
//     disk is full. Without it a mirror falls behind, which nobody counts on any more.
//  3. The include line goes before the file that it names, because a server does not start without it.
//  4. standby.signal goes last. Until then a start by anybody comes up as a copy, which lets no client write
//     and so loses nothing; the agent's next start promotes it, with a whole gate, or lets go again. The
//     other way round, a start in between would be a primary whose commits hang.
//
// Each step is one change that is durable before the next begins. None takes away a transaction.
//
// The running server goes on with the command line that the agent gave it, and so with restart_after_crash
// off, until somebody restarts it. It goes on reading witness/run.conf too, which stays for it: a reload
// takes the administrator's changes and leaves commits alone, where without the file it would fail and
// change nothing. No later start reads it.
//
// From its next start on the administrator's configuration alone counts, without the agent's "settings". Where
// that does not say so, three lines at its top make the server listen where it did: whatever the file
// itself says stands below them and wins, and a warning in the agent's log tells of the difference. If the
// server does not run, its slot can only be named in such a warning.
func (e *Engine) LetGo(ctx context.Context) error {
	return e.call(ctx, "let go", func(ctx context.Context) error {
		e.forgetReached() // What comes here later belongs to another pair, or to none.
		r, primary, err := e.lastRole(ctx)
		if err != nil {
			return err
		}
		if !primary {
			e.log.InfoContext(ctx, "no primary is here to be let go of; nothing was changed")
			return nil
		}
		if r != nil && r.governed() {
			if err := e.release(ctx, r); err != nil {
				return err
			}
		}
		if err := e.dropSlots(ctx, r); err != nil {
			return err
		}
		if err := e.removeGate(ctx, r); err != nil {
			return err
		}
		if r != nil && !r.managed {
			if err := e.reloadPlain(ctx, r); err != nil {
				return err
			}
		}
		e.warnOfNextStart(ctx, r)
		e.log.InfoContext(ctx, "let go: the server is its administrator's", slog.Bool("running", r != nil))
		return nil
	})
}

// lastRole returns the running server, if any, and whether it is a primary, or else was one when it ended.
func (e *Engine) lastRole(ctx context.Context) (r *run, primary bool, err error) {
	if data, _ := e.data(); data != engine.DataPresent {
		return nil, false, nil
	}
	if r, err = e.server(); err != nil {
		return nil, false, err
	}
	if r != nil {
		recovering, err := e.inRecovery(ctx, r)
		return r, err == nil && !recovering, err
	}
	c, err := e.readControl(ctx, e.cfg.DataDir)
	return nil, err == nil && c.lastPrimary() && !exists(e.path("backup_label")), err
}

// slotNames are the slots of the pair's mirror, also under a name from an earlier pair.
const slotNames = `select slot_name from pg_replication_slots
	where slot_name like 'witness\_%' and slot_type = 'physical'`

// dropSlots makes the primary keep no log for its mirror any more. One that is still attached holds its slot,
// and comes back when it was cut off; without the slot it cannot.
func (e *Engine) dropSlots(ctx context.Context, r *run) error {
	if r == nil {
		found, err := filepath.Glob(globEscape(e.path("pg_replslot")) + "/witness_*")
		for _, slot := range found {
			e.log.WarnContext(ctx, "a stopped server's slot cannot be dropped and would keep its log until the disk "+
				"is full; start it and run pg_drop_replication_slot", slog.String("slot", filepath.Base(slot)))
		}
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("its receiver always comes back"))
	defer cancel()
	for {
		rows, err := e.acting.query(ctx, r, slotNames)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := e.dropSlot(ctx, r, row.text(0)); err != nil {
				return err
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("drop the mirror's slots: %w", err)
		}
	}
}

// dropSlot drops a slot, or leaves it to the next attempt if somebody took it first.
func (e *Engine) dropSlot(ctx context.Context, r *run, name string) error {
	_, err := e.acting.query(ctx, r, `select pg_terminate_backend(active_pid, 1000)
		from pg_replication_slots where slot_name = $1 and active_pid is not null`, name)
	if err == nil {
		_, err = e.acting.query(ctx, r, "select pg_drop_replication_slot($1)", name)
	}
	if err != nil && !hasCode(err, codeInUse) && !hasCode(err, codeUndefined) {
		return fmt.Errorf("drop the slot %s: %w", name, err)
	}
	return nil
}

// removeGate takes the restart gate away; r is the running primary, or nil. If Fence comes in between, no
// further step is done, and Fence puts the gate back as soon as it is let.
func (e *Engine) removeGate(ctx context.Context, r *run) error {
	first, err := e.listenLines(ctx, r)
	if err != nil {
		return err
	}
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return err
	}
	defer files.close()
	e.gating.Lock()
	defer e.gating.Unlock()
	for _, step := range e.ungate(files, r, first) {
		if ctx.Err() != nil {
			return fmt.Errorf("remove the restart gate: %w", context.Cause(ctx))
		}
		if err := step(); err != nil {
			return fmt.Errorf("remove the restart gate: %w", err)
		}
	}
	e.mu.Lock()
	e.checked = checkedConfig{} // It was about the gate.
	e.mu.Unlock()
	return nil
}

// ungate is what removeGate does, step by step. LetGo says why in this order.
func (e *Engine) ungate(files *store, r *run, first string) []func() error {
	foreign := r != nil && !r.managed // Its command line is not the agent's, but somebody's who started it.
	return []func() error{
		func() error {
			if foreign {
				return nil
			}
			return e.assureOpts(files)
		},
		func() error {
			// First the lines that the server needs without the agent, then the agent's own.
			err := e.removeInclude(e.adminFile(), first)
			if err == nil {
				_, err = e.removeIncludeFile()
			}
			return err
		},
		func() error {
			if e.cfg.ConfigFile == "" {
				return nil
			}
			return e.removeInclude(e.path("postgresql.conf"), "") // From before config_file was set.
		},
		func() error { return files.remove(restFile) },
		func() error {
			if r != nil {
				r.adopted.Store(false)
			}
			return files.remove(adoptedFile)
		},
		func() error {
			if r != nil && r.managed {
				return nil
			}
			if err := files.remove(runFile); err != nil {
				return err
			}
			_ = files.root.Remove(agentDir) // Unless there is more in it.
			return nil
		},
		func() error {
			if current, err := e.server(); err != nil || current != r {
				return errors.Join(errors.New("the server was started or ended meanwhile, and may be a copy now"), err)
			}
			return files.remove(standbySignal)
		},
	}
}

// removeInclude takes the agent's line out of a configuration, and puts the lines first at its top, in one
// change. A configuration without that line, and without the agent's file beside it, is left alone.
func (e *Engine) removeInclude(name, first string) error {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("open the configuration's directory: %w", err)
	}
	defer root.Close()
	base := filepath.Base(name)
	text, err := root.ReadFile(base)
	if errors.Is(err, fs.ErrNotExist) && name != e.adminFile() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	rest, found := withoutLines(text, includeLine(restFile), includeLine(e.path(restFile)))
	if !found && (first == "" || !e.hasIncludeFile()) {
		return nil
	}
	if first != "" {
		rest = append([]byte(first), withoutListen(rest)...)
	}
	info, err := root.Lstat(base)
	if err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() {
			err = errors.New("it is not a regular file")
		} else {
			files := &store{root: root, user: osUser{uid: int(stat.Uid), gid: int(stat.Gid)}}
			err = files.replace(base, rest, info.Mode().Perm(), true)
		}
	}
	if err != nil {
		return fmt.Errorf("take the agent's include line out of %s, which may also be done by hand: %w", name, err)
	}
	return nil
}

// withoutLines takes lines out of a text, each with the empty line before it, and says whether there were any.
func withoutLines(text []byte, unwanted ...string) (rest []byte, found bool) {
	for line := range bytes.Lines(text) {
		if !slices.Contains(unwanted, strings.TrimRight(string(line), "\r\n")) {
			rest = append(rest, line...)
			continue
		}
		found = true
		if bytes.HasSuffix(rest, []byte("\n\n")) || string(rest) == "\n" {
			rest = rest[:len(rest)-1]
		}
	}
	return rest, found
}

// listenNote ends the lines that tell a later start where the server listened.
const listenNote = " # witness-agent: where it listened for its pair; what stands below wins"

// withoutListen takes out the lines that an earlier LetGo left, which would win over newer ones before them.
func withoutListen(text []byte) (rest []byte) {
	for line := range bytes.Lines(text) {
		if !strings.HasSuffix(strings.TrimRight(string(line), "\r\n"), listenNote) {
			rest = append(rest, line...)
		}
	}
	return rest
}

// listenLines are what the administrator's configuration needs at its top so that the server listens where it
// does now, as far as the configuration itself does not say where; "" if nothing.
func (e *Engine) listenLines(ctx context.Context, r *run) (string, error) {
	if r != nil && !r.managed {
		return "", nil
	}
	other, err := e.elsewhere(ctx)
	if err != nil || len(other) == 0 {
		return "", err
	}
	var text strings.Builder
	for _, s := range e.listenSettings() {
		fmt.Fprintf(&text, "%s = %s%s\n", s.name, quote(s.value), listenNote)
	}
	return text.String(), nil
}

// elsewhere is what a plain start would have that makes it listen elsewhere than the agent's.
func (e *Engine) elsewhere(ctx context.Context) ([]setting, error) {
	var other []setting
	for _, s := range e.listenSettings() {
		plain, err := e.plainValue(ctx, s.name)
		if err != nil {
			return nil, err
		}
		if plain != s.value {
			other = append(other, setting{s.name, plain})
		}
	}
	return other, nil
}

// warnOfNextStart tells what of the administrator's own configuration will differ from what was in force. That
// is not the agent's to change.
func (e *Engine) warnOfNextStart(ctx context.Context, r *run) {
	var other []setting
	var err error
	if r == nil || r.managed {
		other, err = e.elsewhere(ctx)
	}
	if err == nil {
		var names string
		names, err = e.plainValue(ctx, "synchronous_standby_names")
		if names != notHeld {
			other = append(other, setting{"synchronous_standby_names", names})
		}
	}
	if err != nil {
		e.log.WarnContext(ctx, "not known how the server will start without the agent", slog.Any("error", err))
	}
	for _, s := range other {
		e.log.WarnContext(ctx, "the server's next start differs, because its own configuration says so",
			slog.String("setting", s.name), slog.String("value", s.value), slog.String("config", e.adminFile()))
	}
}

// reloadPlain makes a server that reads the administrator's configuration, and held its commits because of the
// agent's line there, let them go.
func (e *Engine) reloadPlain(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errNotTaken)
	defer cancel()
	if err := r.signal(unix.SIGHUP); err != nil {
		return err
	}
	for {
		held, err := e.holding(ctx, r)
		if err != nil || held != heldForNobody {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("let commits go: %w", err)
		}
	}
}
