package raftstore

import (
	"context"
	"fmt"
	"io"
	"log" //nolint:depguard // hclog.Logger speaks of it
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLog writes what raft logs into this program's log.
type raftLog struct {
	to   *slog.Logger
	name string
	args []any
}

func newRaftLog(to *slog.Logger) *raftLog { return &raftLog{to: to} }

// chatter is what raft repeats several times a second while a node is away. That a node is away is said
// once, by contacts; who leads, by raft's own lines on elections.
func chatter(message string) bool {
	switch message {
	case "failed to appendEntries to",
		"failed to heartbeat to",
		"failed to make requestVote RPC",
		"failed to contact",
		"failed to decode incoming command",
		"failed to flush response",
		"rejecting vote request since we have a leader",
		"rejecting pre-vote request since we have a leader",
		"rejecting pre-vote request since node is not in configuration",
		"entering candidate state",
		"pre-vote campaign failed, waiting for election timeout",
		"appendEntries rejected, sending older logs",
		"Election timeout reached, restarting election",
		"starting snapshot up to",
		"no logs to truncate":
		return true
	}
	return false
}

func (l *raftLog) Log(level hclog.Level, message string, args ...any) {
	at := slogLevel(level)
	if chatter(message) {
		at = slog.LevelDebug
	}
	ctx := context.Background() //nolint:forbidigo // hclog has no context to pass on
	if !l.to.Enabled(ctx, at) {
		return
	}
	//nolint:sloglint // the messages are constants of raft
	l.to.LogAttrs(ctx, at, lowered(message), attrs(append(slices.Clip(l.args), args...))...)
}

// lowered makes a message of raft look like one of ours.
func lowered(message string) string {
	if message == "" {
		return message
	}
	return strings.ToLower(message[:1]) + message[1:]
}

func attrs(args []any) []slog.Attr {
	var all []slog.Attr
	for len(args) > 0 {
		if len(args) == 1 {
			return append(all, slog.Any("detail", args[0]))
		}
		key := attrKey(fmt.Sprint(args[0]))
		value := args[1]
		if f, ok := value.(hclog.Format); ok && len(f) > 0 {
			value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		// A pointer, or a value with locks in it, must not be rendered later than now.
		if s, ok := value.(fmt.Stringer); ok {
			value = s.String()
		}
		all = append(all, slog.Any(key, value))
		args = args[2:]
	}
	return all
}

// attrKey spells a key as ours are, and leaves the keys of the record itself alone.
func attrKey(key string) string {
	switch key {
	case "time", "level", "msg":
		return "raft_" + key
	}
	return strings.NewReplacer("-", "_", " ", "_").Replace(key)
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (l *raftLog) enabled(at slog.Level) bool {
	return l.to.Enabled(context.Background(), at) //nolint:forbidigo // hclog has no context to pass on
}

// The rest of hclog.Logger.

func (l *raftLog) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }
func (l *raftLog) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }
func (l *raftLog) Info(message string, args ...any)  { l.Log(hclog.Info, message, args...) }
func (l *raftLog) Warn(message string, args ...any)  { l.Log(hclog.Warn, message, args...) }
func (l *raftLog) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

func (l *raftLog) IsTrace() bool { return false }
func (l *raftLog) IsDebug() bool { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsInfo() bool  { return l.enabled(slog.LevelInfo) }
func (l *raftLog) IsWarn() bool  { return l.enabled(slog.LevelWarn) }
func (l *raftLog) IsError() bool { return l.enabled(slog.LevelError) }

func (l *raftLog) ImpliedArgs() []any { return l.args }
func (l *raftLog) Name() string       { return l.name }

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{to: l.to, name: l.name, args: append(slices.Clip(l.args), args...)}
}

func (l *raftLog) Named(name string) hclog.Logger { return l.ResetNamed(name) }
func (l *raftLog) ResetNamed(name string) hclog.Logger {
	return &raftLog{to: l.to, name: name, args: l.args}
}

func (l *raftLog) SetLevel(hclog.Level)  {}
func (l *raftLog) GetLevel() hclog.Level { return hclog.NoLevel }

func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
