package pair

import (
	"fmt"
	"time"
)

// Hook is how a command ended that an agent ran on a change of role.
type Hook struct {
	Sequence uint64 // rises with every hook of one start of the agent
	Event    string // what happened: primary, mirror, fenced
	Epoch    Epoch
	Command  string // its first word
	OK       bool   // it ended with exit status 0 within its time limit
	Detail   string // how it ended, and the end of what it printed
	Took     time.Duration
}

const (
	// hookEvery bounds how fast the hooks of a pair can fill the log, whatever its agents report; what comes
	// faster waits with the agent.
	hookEvery = time.Second
	// hookBurst lets the hooks of one change of role be recorded at once.
	hookBurst = 5
)

// hooksHeard is the leader's memory of hooks. It dies with the term: the next leader may record a hook again that
// an agent had not heard of as recorded yet, and never misses one.
type hooksHeard struct {
	recorded [2]hookMark // by the place of the host in Record.Members
	noting   bool        // a note of the hook below is proposed
	place    int
	mark     hookMark
	// paid is up to when the pair has used its share of the log: one hookEvery for each hook.
	paid Instant
}

// hookMark is the last hook recorded of one start of an agent.
type hookMark struct {
	start    string
	sequence uint64
}

// hooked proposes a line of the history for the oldest hook that has none. It is one command like any other: one at
// a time, and nothing else is decided until its outcome is known.
func hooked(r Record, w Watch, e Hooked, now Instant) (Watch, []Action) {
	i := r.index(e.Host)
	// A pair that is only watched stays in its forming; what is done for it belongs into its history all the same.
	told := r.Stage == StageReady || r.Stage == StageForming
	if i < 0 || !told || w.Pending.Active || ahead(r, w) != "" {
		return w, nil
	}
	if s := w.Seen[i]; !s.Heard || s.Report.Start != e.Start {
		return w, nil // a newer start speaks for the host
	}
	var h hooksHeard
	if w.hooks != nil {
		h = *w.hooks
	}
	if h.paid > now.Add((hookBurst-1)*hookEvery) {
		return w, nil
	}
	done := w.HooksRecorded(r, e.Host, e.Start)
	for _, hook := range e.Hooks {
		if hook.Sequence <= done {
			continue
		}
		h.noting, h.place, h.mark = true, i, hookMark{start: e.Start, sequence: hook.Sequence}
		h.paid = later(h.paid, now).Add(hookEvery)
		w.hooks = &h
		return propose(r, w, hook.note(e.Host), 0, nil)
	}
	return w, nil
}

// note tells a hook as the history has it.
func (h Hook) note(on HostID) Note {
	if h.Event == eventRescue {
		return h.rescue(on)
	}
	n := Note{Kind: FactHookDone, Host: on}
	ended := "done"
	if !h.OK {
		n.Kind, ended = FactHookFailed, "failed"
	}
	n.Cause = fmt.Sprintf("hook %s on %s for %s (epoch %d) %s after %v", orElse(h.Command, "(no command)"), on,
		orElse(h.Event, "no event"), h.Epoch, ended, h.Took.Round(time.Millisecond))
	if h.Detail != "" {
		n.Cause += ": " + h.Detail
	}
	return n
}

// eventRescue marks a step that an agent took by itself for an instance that it only watches.
const eventRescue = "rescue"

func (h Hook) rescue(on HostID) Note {
	n := Note{Kind: FactRescued, Host: on, Cause: fmt.Sprintf("%s: %s", on, orElse(h.Command, "(nothing said)"))}
	if !h.OK {
		n.Kind = FactRescueFailed
		n.Cause = fmt.Sprintf("%s failed: %s", on, orElse(h.Command, "(nothing said)"))
	}
	if h.Detail != "" {
		n.Cause += ": " + h.Detail
	}
	return n
}

// hookApplied notes that a hook is in the history. A primary that asked for something meanwhile is asked again: it
// need not wait for its next heartbeat because of a line of the history.
func hookApplied(r Record, w Watch, n Note) (Watch, []Action) {
	if w.hooks == nil || !w.hooks.noting {
		return w, nil
	}
	switch n.Kind {
	case FactHookDone, FactHookFailed, FactRescued, FactRescueFailed:
	default:
		return w, nil
	}
	h := *w.hooks
	h.recorded[h.place], h.noting = h.mark, false
	w.hooks = &h
	if w.seen(r, r.Primary).Report.Request != RequestNone {
		return w, []Action{Nudge{Host: r.Primary}}
	}
	return w, nil
}

// hookDropped: the note that was proposed, if one was, is not in the history.
func hookDropped(w Watch) Watch {
	if w.hooks == nil || !w.hooks.noting {
		return w
	}
	h := *w.hooks
	h.noting = false
	w.hooks = &h
	return w
}

// hooksForgotten: another host has the place now.
func hooksForgotten(w Watch, place int) Watch {
	if w.hooks == nil {
		return w
	}
	h := *w.hooks
	h.recorded[place] = hookMark{}
	w.hooks = &h
	return w
}

// HooksRecorded is up to which sequence the hooks of this start of a host's agent are in the history, as far as this
// leader knows.
func (w Watch) HooksRecorded(r Record, host HostID, start string) uint64 {
	i := r.index(host)
	if i < 0 || w.hooks == nil || w.hooks.recorded[i].start != start {
		return 0
	}
	return w.hooks.recorded[i].sequence
}
