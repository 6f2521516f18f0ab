//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The restart gate (rule R10): what lies in the data directory so that a server which anybody starts comes
// up as a copy, and acknowledges no commit even if somebody promotes it.

// path is a file of the data directory.
func (e *Engine) path(name string) string { return filepath.Join(e.cfg.DataDir, name) }

// adminFile is the administrator's configuration.
func (e *Engine) adminFile() string {
	if e.cfg.ConfigFile != "" {
		return e.cfg.ConfigFile
	}
	return e.path("postgresql.conf")
}

// assureGate puts the gate in place where it is not, durably. Nothing that lets a commit be acknowledged
// happens before it has returned nil.
func (e *Engine) assureGate() error {
	e.gating.RLock()
	defer e.gating.RUnlock()
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return fmt.Errorf("put the restart gate in place: %w", err)
	}
	defer files.close()
	if err := e.fillGate(files); err != nil {
		return fmt.Errorf("put the restart gate in place: %w", err)
	}
	return nil
}

func (e *Engine) fillGate(files *store) error {
	if !files.has(standbySignal) {
		if err := files.write(standbySignal, nil, 0o600, true); err != nil {
			return err
		}
	}
	if err := files.mkdir(agentDir); err != nil {
		return err
	}
	if err := files.ensure(restFile, []byte(e.restTextNow())); err != nil {
		return err
	}
	if err := e.assureInclude(files); err != nil {
		return err
	}
	if e.adoptedRun() == nil {
		if err := files.remove(adoptedFile); err != nil { // Of a run that has ended.
			return err
		}
	}
	return e.assureOpts(files)
}

// gateParts is what of the restart gate is in place.
type gateParts struct {
	signal, include, rest, dir bool
	opts                       []byte // postmaster.opts; nil if there is none
}

// tryGate does what puts the gate in place for run r, which somebody else started. If that fails, what was not
// there before is taken away again, and the server goes on as it was, also after a reload or a restart.
func (e *Engine) tryGate(ctx context.Context, r *run, put func() error) error {
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return err
	}
	defer files.close()
	before, err := e.gateNow(files)
	if err != nil {
		return err
	}
	if err = put(); err == nil {
		return nil
	}
	if undone := e.undoGate(files, r, before); undone != nil {
		e.log.ErrorContext(ctx, "restart gate not taken away again; the running server may hold commits for nobody at "+
			"its next reload, and come up as a copy at its next start", slog.Any("error", undone))
	}
	return err
}

func (e *Engine) gateNow(files *store) (gateParts, error) {
	text, err := os.ReadFile(e.adminFile())
	if err != nil {
		return gateParts{}, fmt.Errorf("read the configuration; if it is elsewhere, set config_file: %w", err)
	}
	opts, err := files.root.ReadFile("postmaster.opts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return gateParts{}, fmt.Errorf("read postmaster.opts: %w", err)
	}
	return gateParts{
		signal:  files.has(standbySignal),
		include: hasLine(text, includeLine(restFile)) || hasLine(text, includeLine(e.path(restFile))) || e.hasIncludeFile(),
		rest:    files.has(restFile),
		dir:     files.has(agentDir),
		opts:    opts,
	}, nil
}

// undoGate takes away what was not there before. Not of a server that has ended or is fenced: then the gate is
// what makes its next start safe, and a Fence that comes meanwhile puts it back as soon as it is let.
func (e *Engine) undoGate(files *store, r *run, before gateParts) error {
	e.gating.Lock()
	defer e.gating.Unlock()
	if r.asked.Load() || !r.alive() || !serves(r.pid, e.cfg.DataDir) {
		return nil
	}
	r.adopted.Store(false)
	e.mu.Lock()
	e.checked = checkedConfig{} // It was about the gate.
	e.mu.Unlock()
	// As in LetGo, the line goes before the file that it names.
	if !before.include {
		if err := e.removeInclude(e.adminFile(), ""); err != nil {
			return err
		}
		if _, err := e.removeIncludeFile(); err != nil {
			return err
		}
	}
	var err error
	if before.rest || before.include { // A server does not start without a file that its configuration names.
		err = files.ensure(restFile, []byte(restText()))
	} else {
		err = files.remove(restFile)
	}
	err = errors.Join(err, files.remove(adoptedFile))
	if !before.dir {
		_ = files.root.Remove(agentDir) // Unless there is more in it.
	}
	if !before.signal {
		err = errors.Join(err, files.remove(standbySignal))
	}
	if before.opts != nil {
		err = errors.Join(err, files.ensure("postmaster.opts", before.opts))
	}
	return err
}

// assureInclude puts the agent's line into the administrator's configuration unless it is there.
func (e *Engine) assureInclude(files *store) error {
	if e.cfg.ConfigFile != "" {
		return e.assureIncludeElsewhere()
	}
	const name = "postgresql.conf"
	line := includeLine(restFile) // Relative to the file that has the line.
	text, err := files.root.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the configuration; if it is elsewhere, set config_file: %w", err)
	}
	if hasLine(text, line) {
		return nil
	}
	info, err := files.root.Stat(name)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return files.write(name, append(text, "\n"+line+"\n"...), info.Mode().Perm(), true)
}

func hasLine(text []byte, line string) bool {
	for have := range strings.Lines(string(text)) {
		if strings.TrimRight(have, "\r\n") == line {
			return true
		}
	}
	return false
}

// appendLine adds to a file outside the data directory in place: its owner and rights are its own affair.
func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("add the agent's include line: %w", err)
	}
	_, err = f.WriteString("\n" + line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("add the agent's include line to %s: %w", name, err)
	}
	return nil
}

// assureOpts rewrites the command line that "pg_ctl restart" would repeat. The server writes it at its
// start, with the agent's config_file, under which commits may be released later.
func (e *Engine) assureOpts(files *store) error {
	line := filepath.Join(e.bin, "postgres") + ` "-D" "` + e.cfg.DataDir + `"`
	if e.cfg.ConfigFile != "" {
		line += ` "-c" "config_file=` + e.cfg.ConfigFile + `"`
	}
	have, err := files.root.ReadFile("postmaster.opts")
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(have) == line+"\n" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postmaster.opts: %w", err)
	}
	return files.write("postmaster.opts", []byte(line+"\n"), 0o600, true)
}

// checkedConfig is a configuration that was asked for its effect.
type checkedConfig struct {
	stamp string // the files' identities and times
	err   error
}

// checkRest asks PostgreSQL itself what a start without the agent would do with commits. Somebody may have
// overridden the rest file: after its include line, or with ALTER SYSTEM. Asked again only when the files
// have changed, because Promote has no time for it.
func (e *Engine) checkRest(ctx context.Context) error {
	stamp := e.configStamp()
	e.mu.Lock()
	checked := e.checked
	e.mu.Unlock()
	if checked.stamp == stamp {
		return checked.err
	}
	var err error
	if r := e.adoptedRun(); r != nil {
		err = e.checkAdopted(ctx, r)
	} else {
		err = e.checkPlain(ctx)
	}
	if err != nil && !errors.Is(err, errGateOpen) {
		return err // No answer; asked again.
	}
	e.mu.Lock()
	e.checked = checkedConfig{stamp: stamp, err: err}
	e.mu.Unlock()
	return err
}

// errGateOpen says that a start without the agent could acknowledge commits.
var errGateOpen = errors.New("the restart gate is open")

// checkPlain asks a server that does not start.
func (e *Engine) checkPlain(ctx context.Context) error {
	got, err := e.plainValue(ctx, "synchronous_standby_names")
	if err != nil || got == heldForNobody {
		return err
	}
	return fmt.Errorf("%w: a start without the agent would have synchronous_standby_names = '%s', so it "+
		"could acknowledge commits without the mirror; run ALTER SYSTEM RESET synchronous_standby_names "+
		"and keep the agent's include the last line of %s", errGateOpen, got, e.adminFile())
}

// plainValue asks PostgreSQL itself what a setting would be in a server that is started without the agent.
func (e *Engine) plainValue(ctx context.Context, name string) (string, error) {
	args := []string{"-D", e.cfg.DataDir, "-C", name}
	if e.cfg.ConfigFile != "" {
		args = append(args, "-c", "config_file="+e.cfg.ConfigFile)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := e.output(ctx, "postgres", args...)
	if err != nil {
		return "", fmt.Errorf("ask what a start without the agent would do: %w", err)
	}
	return strings.TrimRight(out, "\n"), nil
}

// configStamp changes whenever one of the files that a plain start reads is written.
func (e *Engine) configStamp() string {
	var b strings.Builder
	b.WriteString(e.restTextNow())
	names := []string{e.adminFile(), e.path("postgresql.auto.conf"), e.path(restFile)}
	if dir := e.includeDir(); dir != "" {
		names = append(names, dir, filepath.Join(dir, includeName))
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%v;", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return b.String()
}

// lastCheck is what checkRest found last, for Observe, which must not run programs.
func (e *Engine) lastCheck() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checked.err
}
