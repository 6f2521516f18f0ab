package protocol

import (
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// on is a step that changes something on a host. say is the sentence about it, with the host's name.
func on(words, does, say string, do func(s *script, h *host) error) step {
	return step{words: words, does: does, changes: true, do: func(s *script, a args) error {
		h := s.w.hosts[a["HOST"]]
		s.story.add(s.w.now, say, h.name)
		if err := do(s, h); err != nil {
			return err
		}
		s.story.look(s.w) // that it is closed now has been said
		return nil
	}}
}

func hostFaults() []step {
	alive := func(want bool, do func(h *host)) func(*script, *host) error {
		return func(_ *script, h *host) error {
			switch {
			case want && !h.alive:
				return fmt.Errorf("%s is not there", h.name)
			case !want && h.alive:
				return fmt.Errorf("%s is there", h.name)
			}
			do(h)
			return nil
		}
	}
	return []step{
		on("lose host HOST", "the host loses its power", "host %s is lost",
			alive(true, func(h *host) { h.lose() })),
		on("start host HOST", "a lost host comes back; its agent starts, its database is down", "host %s starts",
			alive(false, func(h *host) { h.boot() })),
		on("kill agent HOST", "the agent's process ends, the database runs on", "agent of %s ends",
			alive(true, func(h *host) { h.killAgent() })),
		on("start agent HOST", "the agent starts again", "agent of %s starts",
			alive(false, func(h *host) { h.boot() })),
		on("freeze agent HOST", "the agent's process does nothing any more, the database runs on",
			"agent of %s freezes", alive(true, func(h *host) { h.freeze() })),
		on("freeze host HOST", "a hung operating system: agent and database do nothing any more, their ports are open",
			"host %s freezes", alive(true, func(h *host) {
				h.freeze()
				h.db.hung = h.db.running
			})),
		on("thaw HOST", "what was frozen goes on", "%s goes on", func(_ *script, h *host) error {
			if !h.frozen {
				return fmt.Errorf("%s is not frozen", h.name)
			}
			h.db.hung = false
			h.thaw()
			return nil
		}),
	}
}

// operations are the names of the engine's operations in the language.
var operations = map[string]hold.Op{
	"promote": hold.OpPromote, "hold": hold.OpHold, "follow": hold.OpFollow, "hand-over": hold.OpHandOver,
	"stop": hold.OpStop,
}

func databaseFaults() []step {
	running := func(do func(h *host)) func(*script, *host) error {
		return func(_ *script, h *host) error {
			if !h.db.running {
				return fmt.Errorf("the database of %s does not run", h.name)
			}
			do(h)
			return nil
		}
	}
	return []step{
		on("crash database HOST", "the database's main process is killed", "database of %s dies",
			running(func(h *host) { h.crash() })),
		on("hang database HOST", "the database answers nobody and commits nothing, its process is there",
			"database of %s hangs", running(func(h *host) { h.db.hung = true })),
		on("stall mirror HOST", "the mirror stays connected and takes no changes in",
			"mirror on %s takes no changes in", running(func(h *host) { h.db.stalled = h.w.now + 1000*time.Hour })),
		on("spoil data HOST", "the copy on this host is lost; what is left cannot be promoted",
			"copy on %s is lost", running(func(h *host) { h.spoil() })),
		{words: "fail OP HOST", does: "this operation of the database fails from now on", changes: true,
			do: func(s *script, a args) error {
				s.story.add(s.w.now, "%s fails on %s from now on", a["OP"], a["HOST"])
				s.w.hosts[a["HOST"]].fail[operations[a["OP"]]] = 1 << 30
				return nil
			}},
		on("mend HOST", "databases that hung, stalled or failed in an operation are well again", "%s is mended",
			func(_ *script, h *host) error {
				h.db.hung, h.db.stalled, h.fail = false, 0, map[hold.Op]int{}
				return nil
			}),
	}
}

// spoil loses the copy; the database ends with it, and the agent hears of that.
func (h *host) spoil() {
	h.db.wipe()
	start := h.start
	h.w.after(time.Millisecond, func() {
		if h.alive && h.start == start {
			h.receive(func() { h.step(hold.EngineExited{Reason: "its data are gone"}) })
		}
	})
}

func linkFaults() []step {
	return []step{
		{words: "heal all", does: "every link works again", changes: true, do: func(s *script, _ args) error {
			clear(s.w.cuts)
			s.story.add(s.w.now, "every link works again")
			return nil
		}},
		{words: "cut LINK", does: "a-b cuts both directions, a>w one: from a to the witness", changes: true,
			do: func(s *script, a args) error {
				s.story.add(s.w.now, "link %s is cut", a["LINK"])
				for _, way := range a.ways() {
					s.w.cuts[way] = true
				}
				return nil
			}},
		{words: "heal LINK", does: "the link works again", changes: true, do: func(s *script, a args) error {
			s.story.add(s.w.now, "link %s works again", a["LINK"])
			for _, way := range a.ways() {
				if !s.w.cuts[way] {
					return fmt.Errorf("%s is not cut", way)
				}
				delete(s.w.cuts, way)
			}
			return nil
		}},
	}
}

// slowness makes everything of a kind take longer. It changes nothing by itself, so it does not begin a new time.
func slowness() []step {
	return []step{
		{words: "messages take TIME", does: "each message of the witness and between agents, from now on (2ms otherwise)",
			do: func(s *script, a args) error {
				s.w.delay, s.w.double = a.time, func() bool { return false }
				return nil
			}},
		{words: "log entries take TIME", does: "each decision that the witness writes, from now on (5ms otherwise)",
			do: func(s *script, a args) error {
				s.w.commits = a.time
				return nil
			}},
	}
}

// ways are the directions of a line's link, as the world names them.
func (a args) ways() []string {
	x, y, _ := ends(a["LINK"])
	if a["LINK"][1] == '-' {
		return []string{x + ">" + y, y + ">" + x}
	}
	return []string{x + ">" + y}
}
