package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// answerPause is the wait between two attempts to reach a demodb that is starting.
const answerPause = 2 * time.Millisecond

// errGone says that the process ended while it was asked something.
var errGone = errors.New("demodb ended")

// start runs demodb detached and returns when it answers. It comes up as a mirror.
func (e *Engine) start(ctx context.Context) (*process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := os.MkdirAll(e.cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(e.cfg.DataDir, kv.OutputFile),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output of demodb: %w", err)
	}
	defer out.Close()
	socket := filepath.Join(e.cfg.DataDir, kv.AdminFile)
	cmd := exec.Command(e.program,
		"--dir", e.cfg.DataDir, "--listen", e.cfg.Listen, "--admin-socket", socket)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	// Not the agent's environment: what systemd put there for the agent (NOTIFY_SOCKET, WATCHDOG_USEC)
	// is none of demodb's.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=" + os.Getenv("TZ")}
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start demodb: %w", err)
	}
	p, err := openProcess(cmd.Process.Pid, cmd.Process)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p.admin = kv.Admin{Socket: socket}
	if p, err = e.register(p); err != nil {
		return nil, err
	}
	// A fence that came before the process was registered has not seen it.
	if errors.Is(context.Cause(ctx), engine.ErrFenced) {
		e.expectEnd(p, true)
		return nil, errors.Join(engine.ErrFenced, p.signal(syscall.SIGKILL))
	}
	st, err := e.status(ctx, p)
	if errors.Is(err, errGone) {
		return nil, fmt.Errorf("start demodb: it ended at once: %s", e.lastOutput())
	}
	if err != nil {
		return nil, fmt.Errorf("start demodb: %w", err)
	}
	e.log.InfoContext(ctx, "started demodb", "pid", p.pid, "dir", e.cfg.DataDir, "data", st.Data)
	return p, nil
}

// status asks a process that may just be starting, until it answers, ends, or ctx does.
func (e *Engine) status(ctx context.Context, p *process) (kv.Status, error) {
	for {
		st, err := e.adminOf(p).Status(ctx)
		if err == nil && st.PID != p.pid {
			err = fmt.Errorf("process %d answers in the place of %d", st.PID, p.pid)
		}
		if err == nil {
			return st, nil
		}
		select {
		case <-p.gone:
			return kv.Status{}, errGone
		case <-ctx.Done():
			return kv.Status{}, fmt.Errorf("demodb %d does not answer: %w", p.pid, err)
		case <-time.After(answerPause):
		}
		// It may have said only now where its admin socket is.
		if owner, err := kv.FindOwner(e.cfg.DataDir); err == nil && owner.PID == p.pid {
			e.mu.Lock()
			p.admin = kv.Admin{Socket: owner.Admin}
			e.mu.Unlock()
		}
	}
}

// ready returns a running demodb, started if need be, with its status. What is accepted as data says the
// check, which sees what lies in the directory before anything is started there.
func (e *Engine) ready(ctx context.Context, check func(kv.Info) error) (*process, kv.Status, error) {
	p, err := e.attach()
	if err != nil {
		return nil, kv.Status{}, err
	}
	if p != nil {
		st, err := e.status(ctx, p)
		switch {
		case errors.Is(err, errGone):
		case err != nil:
			return nil, kv.Status{}, err
		case !st.Stopping && (st.Listen == e.cfg.Listen || st.Role == kv.RolePrimary):
			return p, st, check(kv.Info{Data: st.Data, Reason: st.Reason, System: st.System})
		default:
			// A mirror that listens elsewhere is of no use to anybody, and one that stops does not
			// change its mind.
			if err := e.end(ctx, p); err != nil {
				return nil, kv.Status{}, err
			}
		}
	}
	info, err := kv.Inspect(e.cfg.DataDir)
	if err != nil {
		return nil, kv.Status{}, translate(err)
	}
	if err := check(info); err != nil {
		return nil, kv.Status{}, err
	}
	if p, err = e.start(ctx); err != nil {
		return nil, kv.Status{}, err
	}
	st, err := e.status(ctx, p)
	return p, st, err
}

// adminOf is how to speak to a process.
func (e *Engine) adminOf(p *process) kv.Admin {
	e.mu.Lock()
	defer e.mu.Unlock()
	return p.admin
}

// asMirror is ready, and makes a primary a mirror by a restart.
func (e *Engine) asMirror(ctx context.Context, check func(kv.Info) error) (*process, kv.Status, error) {
	p, st, err := e.ready(ctx, check)
	if err != nil || st.Role == kv.RoleMirror {
		return p, st, err
	}
	if err := e.end(ctx, p); err != nil {
		return nil, kv.Status{}, err
	}
	return e.ready(ctx, check)
}

// sameSystem accepts the data of one database only; "" means that it is not known which.
func sameSystem(want string) func(kv.Info) error {
	return func(info kv.Info) error {
		if want == "" || info.System == "" || info.System == want {
			return nil
		}
		return fmt.Errorf("%w: this copy is of %s, the partner's is of %s; nothing was changed",
			engine.ErrForeign, info.System, want)
	}
}

// translate gives refusals of demodb the names that the agent knows.
func translate(err error) error {
	var no *kv.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kv.ErrForeign):
		return fmt.Errorf("%w: %w", engine.ErrForeign, err)
	case errors.As(err, &no) && no.Code == kv.CodeNoData:
		return fmt.Errorf("%w: %w", engine.ErrNoData, err)
	default:
		return err
	}
}

// lastOutput is the last line that demodb wrote, for an error message.
func (e *Engine) lastOutput() string {
	file, err := os.Open(filepath.Join(e.cfg.DataDir, kv.OutputFile))
	if err != nil {
		return ""
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return ""
	}
	tail := make([]byte, min(stat.Size(), 1024))
	if _, err := file.ReadAt(tail, stat.Size()-int64(len(tail))); err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(tail)), "\n")
	return lines[len(lines)-1]
}
