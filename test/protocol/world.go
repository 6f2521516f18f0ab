// Package protocol runs the two pure halves of the protocol, pair.Step with Record.Apply on the witness and
// hold.Step on the hosts, against each other in a small simulated world: one pair or several, hosts with an agent and
// a replicated log for each pair, a witness whose leader can change, a network that can be cut in each direction.
//
// The scenarios are the rows of DESIGN's table "What happens when", one file for each further idea: one pair, exact
// times. [Run] plays random schedules over several pairs, which the program test/sim does by the thousand. Everything
// that decides is the code that ships; the world only carries messages and time, and holds both against the promises.
package protocol

import (
	"fmt"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// world is one pair as a scenario sees it, on hosts a and b, and all that surrounds it.
type world struct {
	*env
	place  int // in env.pairs
	hosts  map[string]*host
	parts  []*host // the same, by name
	record pair.Record
	leader *leader // nil: no quorum
	tokens map[uint64]func(*pair.Refusal)
	fences func(*host) bool // the configured fencing command; nil: none
	// proposed is by a leader, and not applied yet.
	proposed *proposal
	ledger
}

func newWorld() *world {
	e := newEnv()
	e.told = true
	w := newPair(e, "a", "b", pair.DefaultPolicy())
	e.begin()
	return w
}

// newPair is a pair that is forming; its first host has the data.
func newPair(e *env, primary, mirror string, policy pair.Policy) *world {
	w := &world{env: e, place: len(e.pairs), hosts: map[string]*host{}, tokens: map[uint64]func(*pair.Refusal){}}
	members := [2]pair.Member{
		{Host: pair.HostID(primary), Instance: "db"}, {Host: pair.HostID(mirror), Instance: "db"},
	}
	name := "p" + strconv.Itoa(len(e.pairs)+1)
	create := pair.Command{Pair: pair.ID(name), Term: 1, Body: pair.Create{Name: name, Members: members,
		Primary: members[0].Host, Mode: pair.ModeAutomatic, Policy: policy}}
	var err error
	if w.record, _, err = (pair.Record{}).Apply(create, 1); err != nil {
		panic(err)
	}
	newHost(w, primary)
	newHost(w, mirror)
	w.hosts[primary].db.running, w.hosts[primary].db.data = true, true
	e.pairs = append(e.pairs, w)
	return w
}

// begin starts the witness, the agents and the clients.
func (e *env) begin() {
	e.elect(0)
	for _, a := range e.agents {
		a.boot()
	}
	for _, w := range e.pairs {
		w.after(w.writing(), w.write)
	}
}

// logf notes what happened to this pair.
func (w *world) logf(format string, args ...any) {
	if w.told {
		w.env.logf("%s", w.of()+fmt.Sprintf(format, args...))
	}
}

// of names the pair if there are others.
func (w *world) of() string {
	if len(w.pairs) < 2 {
		return ""
	}
	return w.record.Name + " "
}

func (w *world) violate(format string, args ...any) {
	s := w.of() + fmt.Sprintf(format, args...)
	w.faults = append(w.faults, s)
	w.env.logf("VIOLATION %s", s)
}

// restore replaces the record by one from a backup, see restoreAll.
func (w *world) restore(backup pair.Record, term pair.Term) {
	w.restoreAll([]pair.Record{backup}, term)
}

// ask is an operator's wish; the outcome is logged.
func (w *world) ask(wish pair.Wish) *pair.Refusal {
	var got *pair.Refusal
	w.tokens[7] = func(r *pair.Refusal) { got = r }
	if w.leader == nil {
		panic("no leader to ask")
	}
	w.step(w.leader, pair.Ask{Token: 7, Wish: wish})
	w.run(2 * commit)
	delete(w.tokens, 7)
	if got != nil {
		w.logf("operator was refused: %v", got)
	}
	return got
}

// writing is how long a client waits between two writes.
func (w *world) writing() time.Duration {
	if w.rhythm == 0 {
		return writing
	}
	return w.rhythm
}

// write is a client on each host that writes all the time.
func (w *world) write() {
	for _, h := range w.parts {
		if d := h.db; d.open() && !d.opened {
			d.opened = true
			w.opened(d)
			w.vowed(h)
		}
		h.db.write()
	}
	w.after(w.writing(), w.write)
}

// primary is the recorded primary's host.
func (w *world) primary() *host { return w.hosts[string(w.record.Primary)] }

func (w *world) profile(name string) pair.Policy {
	p, ok := pair.ProfilePolicy(name)
	if !ok {
		panic(name)
	}
	return p
}
