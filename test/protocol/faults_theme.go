package protocol

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// ofEngines are faults of databases and of what agents do with them.
func ofEngines() []kind {
	return []kind{
		{1, hangDatabase}, {3, mendDatabase}, {1, stallMirror}, {2, failOperation}, {1, hangOperation}, {1, slowOperations},
		{1, wipeMirror},
	}
}

// of says of which database a fault is.
func of(h *host) string { return fmt.Sprintf("%s on %s", h.w.record.Name, h.name) }

func hangDatabase(s *schedule, r *rand.Rand) fault {
	h := s.anyPart(r)
	return fault{what: "hang database of " + of(h), do: func(*schedule) { h.db.hung = h.db.running }}
}

func mendDatabase(s *schedule, r *rand.Rand) fault {
	h := s.anyPart(r)
	return fault{what: "mend database of " + of(h), do: func(*schedule) {
		h.db.hung, h.hang, h.slow = false, map[hold.Op]bool{}, 1
	}}
}

func stallMirror(s *schedule, r *rand.Rand) fault {
	h, length := s.anyPart(r), millis(r, 0, 5000)
	return fault{what: fmt.Sprintf("stall mirror of %s for %v", of(h), length), do: func(s *schedule) {
		h.db.stalled = s.now + length
	}}
}

func anyOp(r *rand.Rand) hold.Op { return hold.Op(1 + r.IntN(int(hold.OpStop))) }

func failOperation(s *schedule, r *rand.Rand) fault {
	h, op, times := s.anyPart(r), anyOp(r), 1+r.IntN(3)
	what := fmt.Sprintf("%v of %s fails %d times", op, of(h), times)
	return fault{what: what, do: func(*schedule) { h.fail[op] = times }}
}

func hangOperation(s *schedule, r *rand.Rand) fault {
	h, op := s.anyPart(r), anyOp(r)
	return fault{what: fmt.Sprintf("%v of %s hangs", op, of(h)), do: func(*schedule) { h.hang[op] = true }}
}

func slowOperations(s *schedule, r *rand.Rand) fault {
	h, slow := s.anyPart(r), 1+20*r.Float64()
	return fault{what: fmt.Sprintf("operations of %s take %.0f times longer", of(h), slow),
		do: func(*schedule) { h.slow = slow }}
}

func wipeMirror(s *schedule, r *rand.Rand) fault {
	h := s.anyPart(r)
	return fault{what: "wipe mirror of " + of(h), do: func(s *schedule) {
		if r := &h.w.record; r.Primary == pair.HostID(h.name) || r.Stage != pair.StageReady || !h.w.primary().db.data {
			return // nobody brings a pair back that has lost its last copy
		}
		h.db.wipe()
		s.after(time.Millisecond, func() { h.receive(func() { h.step(hold.EngineExited{Reason: "wiped"}) }) })
	}}
}

// ofChanges are lost files, replaced mirrors, changed policies and forced failovers over hosts that are off.
func ofChanges() []kind {
	return []kind{
		{1, loseFile}, {1, loseAllFiles}, {1, loseMarks}, {3, changePolicy}, {3, replaceMirror}, {2, forceOff},
		{2, forceFenced},
	}
}

func loseFile(s *schedule, r *rand.Rand) fault {
	h := s.anyPart(r)
	return fault{what: "lose epoch file of " + of(h) + ", restart its agent", do: func(*schedule) {
		h.loseFile()
		h.restart()
	}}
}

func loseAllFiles(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "lose all epoch files of " + a.name + ", restart its agent", do: func(*schedule) {
		for _, h := range a.parts {
			h.loseFile()
		}
		a.restart()
	}}
}

// loseMarks empties the run directory of a host.
func loseMarks(s *schedule, r *rand.Rand) fault {
	a, restart := s.anyAgent(r), r.IntN(2) == 0
	return fault{what: fmt.Sprintf("lose marks of %s, restart its agent: %t", a.name, restart), do: func(*schedule) {
		for _, h := range a.parts {
			h.mark = hold.Mark{}
		}
		if restart {
			a.restart()
		}
	}}
}

func changePolicy(s *schedule, r *rand.Rand) fault {
	w, name := s.anyPair(r), []string{"fast", "default", "patient"}[r.IntN(3)]
	return fault{what: "profile of " + w.record.Name + " becomes " + name, do: func(s *schedule) {
		s.wish(w, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile(name)}})
	}}
}

// replaceMirror puts another host in the mirror's place, if the pair is paused or exposed.
func replaceMirror(s *schedule, r *rand.Rand) fault {
	w, nth := s.anyPair(r), r.IntN(2)
	return fault{what: "replace mirror of " + w.record.Name, do: func(s *schedule) {
		strangers := slices.DeleteFunc(s.hostNames(), func(name string) bool {
			_, member := w.record.Member(pair.HostID(name))
			return member
		})
		if len(strangers) == 0 {
			return
		}
		name := strangers[nth%len(strangers)]
		if w.hosts[name] == nil {
			newHost(w, name)
		}
		s.wish(w, pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: pair.HostID(name), Instance: "db"}}})
	}}
}

// forceOff is an operator who makes sure that the primary is off, says so, and keeps it off until it is over.
func forceOff(s *schedule, r *rand.Rand) fault {
	w := s.anyPair(r)
	return fault{what: "forced failover of " + w.record.Name + ", its primary is off", do: func(s *schedule) {
		p := w.primary()
		p.lose()
		s.off[p.name] = w
		s.wish(w, pair.WishForce{By: "random", AcceptLoss: true, HostOff: w.record.Primary})
	}}
}

func forceFenced(s *schedule, r *rand.Rand) fault {
	w, works := s.anyPair(r), r.IntN(2) == 0
	what := fmt.Sprintf("forced failover of %s with a fencing command that works: %t", w.record.Name, works)
	return fault{what: what, do: func(s *schedule) {
		w.fences = func(h *host) bool {
			if works {
				h.lose()
			}
			return works
		}
		s.wish(w, pair.WishForce{By: "random", AcceptLoss: true, CanFence: true})
	}}
}

// ofRestores are backups of the witness and restores from them.
func ofRestores() []kind { return []kind{{2, backUp}, {1, restore}} }

func backUp(*schedule, *rand.Rand) fault {
	return fault{what: "back the witness up", do: func(s *schedule) { s.backUp() }}
}

func (s *schedule) backUp() {
	s.backup = s.backup[:0]
	for _, w := range s.pairs {
		s.backup = append(s.backup, w.record)
	}
}

// restore goes back to the last backup, with a leader whose term may be one that was heard before.
func restore(_ *schedule, r *rand.Rand) fault {
	part := r.Float64()
	return fault{what: "restore the witness", do: func(s *schedule) {
		if s.backup[0].Revision.Generation() < s.pairs[0].record.Revision.Generation() {
			return // the restore command opens a generation that follows the present one
		}
		s.restoreAll(s.backup, pair.Term(part*float64(s.term+1)))
		s.backUp()
	}}
}
