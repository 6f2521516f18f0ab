package protocol

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// step is one sentence of the language.
type step struct {
	words   string // as it is written; words in capitals stand for something
	does    string // for testdata/README.md
	do      func(s *script, a args) error
	changes bool // something happens to the pair: times count from here if it begins a block
	begins  bool // may come before there is a pair
}

// steps is the whole language.
func steps() []step {
	return slices.Concat(beginnings(), hostFaults(), databaseFaults(), linkFaults(), slowness(),
		witnessFaults(), wishes(), waits(), questions())
}

func beginnings() []step {
	begin := func(words, does string, do func(s *script, a args) error) step {
		return step{words: words, does: does, do: do, begins: true}
	}
	return []step{
		begin("pair", "a new world: the pair sales is armed, a is the primary of epoch 1, b its mirror; "+
			"fences are of level engine, as in the product today",
			func(s *script, _ args) error { return s.began(1, false) }),
		begin("pair fence kernel", "the same with fences that end service by themselves when the right ends",
			func(s *script, _ args) error { return s.began(1, true) }),
		begin("pairs N", "as pair, with further pairs on hosts of their own that share the witness",
			func(s *script, a args) error { return s.began(a.number(), false) }),
		begin("pair exposing", "as pair, with an engine that stops holding commits by itself when its mirror is gone, "+
			"as SQL Server's mirroring does: at most "+exposingBound.String()+" of commits may be lost, and that is said",
			func(s *script, _ args) error { return s.beganExposing(false) }),
		begin("pair exposing strict", "the same, configured to promote the mirror on the primary's word only",
			func(s *script, _ args) error { return s.beganExposing(true) }),
	}
}

// number is the N of a line; check has looked at it.
func (a args) number() int {
	n, err := strconv.Atoi(a["N"])
	if err != nil {
		panic(err)
	}
	return n
}

// time is the TIME of a line.
func (a args) time() time.Duration {
	d, err := time.ParseDuration(a["TIME"])
	if err != nil {
		panic(err)
	}
	return d
}

// dba is the operator of all scenarios.
const dba = "dba"

func wishes() []step {
	operator := func(words, does string, wish func(a args) pair.Wish) step {
		return step{words: "operator " + words, does: does, changes: true, do: func(s *script, a args) error {
			s.wish(a.in(words), wish(a))
			return nil
		}}
	}
	mode := func(m pair.Mode) func(args) pair.Wish {
		set := pair.SetMode{Mode: m, Pause: pair.Pause{By: dba}}
		return func(args) pair.Wish { return pair.WishCommand{Body: set} }
	}
	return []step{
		operator("switchover", "a planned change of primary",
			func(args) pair.Wish { return pair.WishSwitchover{By: dba} }),
		operator("force", "a forced failover that accepts no loss",
			func(args) pair.Wish { return pair.WishForce{By: dba} }),
		operator("force accept-loss", "a forced failover that accepts loss",
			func(args) pair.Wish { return pair.WishForce{AcceptLoss: true, By: dba} }),
		operator("force accept-loss host-off HOST", "the same, with the operator's word that the host is off",
			func(a args) pair.Wish {
				return pair.WishForce{AcceptLoss: true, HostOff: pair.HostID(a["HOST"]), By: dba}
			}),
		operator("pause", "no automatic decisions", mode(pair.ModeManual)),
		operator("observe", "no automatic decisions, but say what would have been done", mode(pair.ModeObserve)),
		operator("resume", "automatic again", mode(pair.ModeAutomatic)),
	}
}

// showsTwo is the step that ends a block in which G1 is seen to be broken, where it is not promised.
const showsTwo = "until two primaries"

func waits() []step {
	until := func(words, does string, ok func(s *script, a args) bool) step {
		return step{words: "until " + words, does: does, do: func(s *script, a args) error {
			return s.until(a.in(words), func() bool { return ok(s, a) })
		}}
	}
	return []step{
		{words: "run TIME", does: "time passes", do: func(s *script, a args) error {
			s.run(a.time())
			return nil
		}},
		until("armed", "automatic failover is possible and nothing is under way; this and all of these wait a minute at most",
			func(s *script, _ args) bool { return s.w.record.Armed() && s.w.record.Procedure == nil }),
		until("exposed", "the record says that the primary serves alone",
			func(s *script, _ args) bool { return s.w.record.Right == pair.RightSole }),
		until("HOST serves", "clients' writes are acknowledged on this host",
			func(s *script, a args) bool { return s.serves(a["HOST"]) }),
		until("epoch N", "the record has this epoch",
			func(s *script, a args) bool { return s.w.record.Epoch >= pair.Epoch(a.number()) }),
		until("commits are to be held", "the database of the primary begins to hold commits for its mirror",
			func(s *script, _ args) bool { return s.w.primary().op.Op == hold.OpHold }),
		until("done", "no procedure is under way",
			func(s *script, _ args) bool { return s.w.record.Procedure == nil }),
		{words: showsTwo, does: "G1 is broken: only to show what is not promised; the world ends with it",
			do: func(s *script, _ args) error {
				err := s.until("two primaries", func() bool { return len(s.w.faults) > 0 })
				s.story.add(s.w.now, "G1 is broken: two hosts run as primary, which this level of fence does not exclude")
				return err
			}},
	}
}

func questions() []step {
	return []step{
		{words: "who serves", does: "who acknowledges writes, and by which right; with several pairs, how the others are",
			do: func(s *script, _ args) error { s.whoServes(); return nil }},
		{words: "explain", does: "whether the pair would fail over if its primary were lost now, and if not, why",
			do: func(s *script, _ args) error { s.explain(); return nil }},
		{words: "writes", does: "the longest pause in acknowledged writes since +0.00, and what was lost",
			do: func(s *script, _ args) error { s.writes(); return nil }},
	}
}

// witnessFaults are about the witness as a whole: this world has no nodes of it, only who leads.
func witnessFaults() []step {
	return []step{
		{words: "lose leader", does: "the leading node of the witness dies; the others elect a new one in 0.55 s",
			changes: true, do: func(s *script, _ args) error {
				s.story.add(s.w.now, "leading node of the witness dies")
				s.w.elect(election)
				return nil
			}},
		{words: "lose witness", does: "no quorum of the witness is left",
			changes: true, do: func(s *script, _ args) error {
				if s.w.leader == nil {
					return errors.New("the witness is lost already")
				}
				s.story.add(s.w.now, "witness is lost")
				s.w.loseWitness()
				return nil
			}},
		{words: "witness back", does: "a quorum of the witness is there again and has elected a leader",
			changes: true, do: func(s *script, _ args) error {
				if s.w.leader != nil {
					return errors.New("the witness is there")
				}
				s.story.add(s.w.now, "witness is back")
				s.w.elect(0)
				return nil
			}},
		{words: "back up witness", does: "a snapshot of the witness is taken", do: func(s *script, _ args) error {
			record := s.w.record
			s.backup = &record
			s.story.add(s.w.now, "a snapshot of the witness is taken")
			return nil
		}},
		{words: "restore witness", does: "the witness is gone for good, and restored from the snapshot",
			changes: true, do: func(s *script, _ args) error {
				if s.backup == nil || len(s.w.pairs) > 1 {
					return errors.New("there is no snapshot of one pair")
				}
				s.story.add(s.w.now, "witness is restored from the snapshot")
				s.w.restore(*s.backup, s.w.term)
				return nil
			}},
	}
}

// election is how long the nodes of a witness are without a leader (DESIGN, "Timing").
const election = 550 * time.Millisecond
