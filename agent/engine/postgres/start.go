//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// launch starts the server as a copy, with commits held for nobody, and returns when its process runs. There
// is no other way to start it: whatever shall become a primary is promoted afterwards.
func (e *Engine) launch(ctx context.Context, s runSettings) (*run, error) {
	if err := e.sweep(ctx); err != nil {
		return nil, err
	}
	if err := e.awaitReaped(ctx); err != nil {
		return nil, err
	}
	if err := e.assureGate(); err != nil {
		return nil, err
	}
	if err := e.checkRest(ctx); err != nil {
		// A copy does no harm; what depends on the gate asks again and refuses.
		e.log.WarnContext(ctx, "restart gate is open", slog.Any("error", err))
	}
	s.commits = heldForNobody
	if err := e.writeRunFile(s); err != nil {
		return nil, err
	}
	output, err := e.openLog()
	if err != nil {
		return nil, err
	}
	defer output.Close()

	e.adopting.Lock()
	defer e.adopting.Unlock()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("start the server: %w", context.Cause(ctx))
	}
	cmd := e.serverCommand(output)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	r, err := newRun(cmd.Process.Pid, true, cmd.Process)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill())
	}
	// The agent's unit is ahead of others on the processor; its database is not. Best effort: what the server
	// starts inherits it.
	_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0)
	e.register(r)
	return r, nil
}

// awaitReaped waits until the last postmaster is no process any more. One that somebody else started is reaped by
// its own parent; until then PostgreSQL takes it for a running server.
func (e *Engine) awaitReaped(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("its parent does not take notice"))
	defer cancel()
	for {
		file, err := readPidFile(e.cfg.DataDir)
		if err != nil {
			return nil // None, or one that names no server: PostgreSQL says what it thinks of it.
		}
		if p, err := readProcess(file.pid); err != nil || !p.dead() && !leaving(file.pid) {
			return nil // Gone, or another process, of which PostgreSQL thinks for itself.
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for the end of process %d of the last server: %w", file.pid, err)
		}
	}
}

// serverCommand is the postmaster's. It gets a session of its own and no pipe to the agent, so that it
// survives the agent, and a signal to the agent's group does not reach it.
func (e *Engine) serverCommand(output *os.File) *exec.Cmd {
	args := []string{"-D", e.cfg.DataDir}
	config := []setting{{"config_file", e.path(runFile)}}
	for _, s := range slices.Concat(config, e.listenSettings(), fixedSettings()) {
		args = append(args, "-c", s.name+"="+s.value)
	}
	//nolint:noctx // The server outlives every context of the agent.
	cmd := exec.Command(filepath.Join(e.bin, "postgres"), args...)
	cmd.Dir = "/"
	// The agent's unit protects the agent from the out-of-memory killer; one backend must not be protected like it.
	cmd.Env = append(e.user.environment(), "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: e.user.credential, Setsid: true}
	return cmd
}

// logLimit is the size at which the server's log is set aside, at a start: PostgreSQL's own collector, if
// the administrator uses it, writes elsewhere.
const logLimit = 16 << 20

func (e *Engine) openLog() (*os.File, error) {
	if info, err := os.Lstat(e.cfg.LogFile); err == nil && info.Size() > logLimit {
		if err := os.Rename(e.cfg.LogFile, e.cfg.LogFile+".1"); err != nil {
			return nil, fmt.Errorf("set the server's log aside: %w", err)
		}
	}
	const flags = os.O_APPEND | os.O_WRONLY | unix.O_NOFOLLOW
	f, err := os.OpenFile(e.cfg.LogFile, flags, 0)
	if err == nil {
		return f, nil // Its owner and rights are the administrator's affair.
	}
	// Not in one call with the above: Linux refuses O_CREATE for another user's file in a shared directory.
	if f, err = os.OpenFile(e.cfg.LogFile, flags|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	if err := f.Chown(e.user.uid, e.user.gid); err != nil {
		return nil, errors.Join(fmt.Errorf("open the server's log: %w", err), f.Close())
	}
	return f, nil
}

// lastLog is the end of the server's log, for the error of a start that failed.
func (e *Engine) lastLog() string {
	f, err := os.Open(e.cfg.LogFile)
	if err != nil {
		return "no log: " + err.Error()
	}
	defer f.Close()
	tail := make([]byte, 1500)
	info, err := f.Stat()
	if err != nil {
		return "no log: " + err.Error()
	}
	n, _ := f.ReadAt(tail, max(0, info.Size()-int64(len(tail))))
	lines := strings.Split(strings.TrimSpace(string(tail[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], "; ")
}

// awaitReady waits until the server accepts connections: for a copy, until it is consistent.
func (e *Engine) awaitReady(ctx context.Context, r *run) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if file, err := readPidFile(e.cfg.DataDir); err == nil && file.pid == r.pid && file.ready {
			return e.assureGate() // The server has written its command line meanwhile.
		}
		select {
		case <-r.gone:
			return fmt.Errorf("start the server: it ended at once; its log ends with: %s", e.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("wait for the server to accept connections: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// running returns the current server that the agent governs, started as a copy if none runs. A server that
// somebody else started is replaced, because its commits cannot be held and released; only Promote asks first
// whether it can be adopted (toPromote).
func (e *Engine) running(ctx context.Context) (*run, error) {
	r, err := e.server()
	if err != nil {
		return nil, err
	}
	if r != nil && !r.governed() {
		if err := e.restartable(ctx, r); err != nil {
			return nil, fmt.Errorf("the running server was not started by the agent and could not be started by it; "+
				"it is left as it is: %w", err)
		}
		e.log.WarnContext(ctx, "server was not started by the agent; it is restarted as a copy", slog.String("run", r.id))
		if err := e.stopServer(ctx, r); err != nil {
			return nil, err
		}
		r = nil
	}
	if r == nil {
		if err := e.usable(); err != nil {
			return nil, err
		}
		if r, err = e.launch(ctx, runSettings{}); err != nil {
			return nil, err
		}
	}
	if err := e.awaitReady(ctx, r); err != nil {
		if errors.Is(context.Cause(ctx), engine.ErrFenced) {
			e.killFenced(ctx, r)
		}
		return nil, err
	}
	return r, nil
}

// killFenced ends a server that was started while Fence looked for servers.
func (e *Engine) killFenced(ctx context.Context, r *run) {
	r.asked.Store(true)
	if err := e.kill(context.WithoutCancel(ctx), 0); err != nil {
		e.log.ErrorContext(ctx, "server that started during a fence not killed", slog.Any("error", err))
	}
}

// writeRunFile sets what the server reads at its start or at the next reload. It need not be durable: no
// other start reads it.
func (e *Engine) writeRunFile(s runSettings) error {
	files, err := openStore(e.cfg.DataDir, e.user)
	if err != nil {
		return err
	}
	defer files.close()
	text := runText(e.adminFile(), e.cfg.Settings, s)
	return files.write(runFile, []byte(text), 0o600, false)
}

// apply changes the settings of a running server and returns when the server has taken them. An adopted run is a
// primary, and has no upstream.
func (e *Engine) apply(ctx context.Context, r *run, s runSettings) error {
	file, wanted := runFile, s.pairs()
	var err error
	if r.adopted.Load() {
		file, wanted = adoptedFile, wanted[:1]
		if err = e.keepSettings(ctx, r); err == nil {
			err = e.writeAdopted(r, s.commits)
		}
	} else {
		err = e.writeRunFile(s)
	}
	if err != nil {
		return err
	}
	if err := r.signal(unix.SIGHUP); err != nil {
		return err
	}
	const sql = `select current_setting('synchronous_standby_names'),
		current_setting('primary_conninfo'), current_setting('primary_slot_name')`
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errNotTaken)
	defer cancel()
	for {
		rows, err := e.acting.query(ctx, r, sql)
		if err != nil {
			return err
		}
		other := ""
		for i, want := range wanted {
			if rows[0].text(i) != want.value {
				other = want.name
			}
		}
		if other == "" {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("set %s in %s: %w; its log says whether the configuration has errors; if it "+
				"is also set in postgresql.auto.conf, which wins, run ALTER SYSTEM RESET %s",
				other, e.path(file), err, other)
		}
	}
}

var errNotTaken = errors.New("the server has not taken the setting")

// pause waits for one poll's time.
func pause(ctx context.Context) error {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
