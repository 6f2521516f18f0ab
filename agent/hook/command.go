package hook

import (
	"bytes"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Times of a command's end.
const (
	// grace is between the request to end and the end by force.
	grace = 2 * time.Second
	// closeGrace is the same where the agent itself is about to end, and its unit waits for it.
	closeGrace = time.Second
	// pipeWait is for how long the output of something that a command left behind is read.
	pipeWait = 500 * time.Millisecond
)

// keptOutput is how many bytes of a command's output are kept, from its end.
const keptOutput = 500

// defaultPath is what commands find where the agent itself has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is all that a command finds. It is a promise to those who write hooks.
func environment(e Event, sequence uint64, inherited func(string) (string, bool)) []string {
	env := []string{
		"WITNESS_EVENT=" + string(e.Name),
		"WITNESS_PAIR=" + e.Pair,
		"WITNESS_PAIR_ID=" + e.PairID,
		"WITNESS_HOST=" + e.Host,
		"WITNESS_PARTNER=" + e.Partner,
		"WITNESS_INSTANCE=" + e.Instance,
		"WITNESS_ENGINE=" + e.Engine,
		"WITNESS_EPOCH=" + strconv.FormatUint(e.Epoch, 10),
		"WITNESS_ROLE=" + e.Role,
		"WITNESS_OLD_ROLE=" + e.OldRole,
		"WITNESS_REASON=" + e.Reason,
		"WITNESS_SEQUENCE=" + strconv.FormatUint(sequence, 10),
	}
	path := defaultPath
	if inherited != nil {
		if p, ok := inherited("PATH"); ok {
			path = p
		}
		for _, name := range []string{"LANG", "TZ"} {
			if v, ok := inherited(name); ok {
				env = append(env, name+"="+v)
			}
		}
	}
	env = append(env, "PATH="+path)
	for i, v := range env {
		// A text with a zero byte, such as an engine's own words may be, would keep the command from starting.
		env[i] = strings.ReplaceAll(v, "\x00", " ")
	}
	return env
}

// run runs one command to its end.
func (r *Runner) run(h Hook, env []string) Result {
	var output tail
	cmd := command(h.Command)
	cmd.Env, cmd.Dir = env, "/"
	cmd.Stdout, cmd.Stderr = &output, &output // one pipe: what it prints stays in order
	cmd.WaitDelay = pipeWait
	if err := cmd.Start(); err != nil {
		return Result{Detail: "not started: " + err.Error()}
	}
	cut, err := r.await(cmd, h.limit())
	left := errors.Is(err, exec.ErrWaitDelay)
	if left {
		err = nil // it ended well, and something that it started holds its output
	}
	words := []string{cut}
	if cut == "" && err != nil {
		words = append(words, err.Error())
	}
	if left {
		words = append(words, "left something running that holds its output")
	}
	words = append(words, output.String())
	words = deleteEmpty(words)
	return Result{OK: cut == "" && err == nil, Detail: strings.Join(words, ": ")}
}

func deleteEmpty(list []string) []string {
	var kept []string
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// tail keeps the end of what is written to it. A command that cannot even be killed may write while it is read.
type tail struct {
	mu   sync.Mutex
	kept []byte
	more bool // than is kept
}

// Write implements io.Writer and never fails: a command must not end because nobody wants to read all of it.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-keptOutput):]...)
	if over := len(t.kept) - keptOutput; over > 0 || len(p) > keptOutput {
		t.kept, t.more = bytes.Clone(t.kept[max(0, over):]), true
	}
	return len(p), nil
}

// String is one line, whatever was printed.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(t.kept), "�")), " ")
	if t.more {
		s = "..." + s
	}
	return s
}
