package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// script plays the text scenarios in testdata: blocks of steps in a small language, each answered by what
// happened, in short sentences that a database administrator can review without reading Go.
type script struct {
	w     *world // nil before the first "pair"
	story story
	// zero is the moment that the times in the output are relative to: the beginning of the last block that
	// began with a change. A block that only lets time pass, or asks, goes on counting.
	zero time.Duration
	// wants says that the block under way is there to show that G1 is broken where it is not promised.
	wants bool
	// backup is the last snapshot of the witness; nil: none in this world.
	backup *pair.Record
}

// patience is how long "until" waits before it gives up.
const patience = 60 * time.Second

// problem is what is wrong with one line of a block.
type problem struct {
	line int // 0: the first
	what string
}

func (p *problem) Error() string { return p.what }

// block plays the steps of one block and returns what is to be read about it.
func (s *script) block(lines []string) (string, *problem) {
	type call struct {
		step
		args
	}
	var calls []call
	for i, line := range lines {
		step, args, err := find(line)
		if err != nil {
			return "", &problem{i, err.Error()}
		}
		calls = append(calls, call{step, args})
	}
	if s.w != nil && calls[0].changes {
		s.zero = s.w.now
	}
	s.wants = slices.Contains(lines, showsTwo)
	for i, c := range calls {
		if s.w == nil && !c.begins {
			return s.told(), &problem{i, `there is no pair yet: begin with the step "pair"`}
		}
		err := c.do(s, c.args)
		s.story.observe(s)
		if broken := s.broken(); broken != "" {
			return s.told(), &problem{i, broken} // also if that is why the step could not end well
		}
		if err != nil {
			return s.told(), &problem{i, err.Error()}
		}
	}
	return s.told(), nil
}

const doesNotHold = "a guarantee does not hold: "

// broken says which guarantee does not hold (any more).
func (s *script) broken() string {
	switch {
	case len(s.w.faults) == 0:
		return s.lacks()
	case s.wants && strings.HasPrefix(s.w.faults[0], "G1:"):
		return ""
	default:
		return doesNotHold + strings.Join(s.w.faults, "; ")
	}
}

// lacks looks at G2 now and not only when a database opens: whoever serves has every acknowledged write.
func (s *script) lacks() string {
	for _, name := range pairHosts(s.w) {
		db := s.w.hosts[name].db
		if lost := s.w.lacking(db); db.open() && db.opened && len(lost) > 0 {
			return fmt.Sprintf("%sG2: %s serves without %d acknowledged writes", doesNotHold, name, len(lost))
		}
	}
	return ""
}

// pass lets time pass in small pieces, so that the story misses nothing, until ok says so.
func (s *script) pass(limit time.Duration, ok func() bool) bool {
	for end := s.w.now + limit; s.w.now < end && (s.wants || len(s.w.faults) == 0); {
		if ok() {
			return true
		}
		s.w.run(time.Millisecond)
		s.story.observe(s)
	}
	return ok()
}

func (s *script) run(d time.Duration) { s.pass(d, func() bool { return false }) }

// until waits for what is expected to happen; if it does not, the scenario is wrong or the product is.
func (s *script) until(what string, ok func() bool) error {
	if !s.pass(patience, ok) {
		return fmt.Errorf("not %s within %v", what, patience)
	}
	return nil
}

// began puts the pair of every scenario in place: armed for two seconds, the witness and both hosts connected.
// Further pairs, on hosts of their own, have the same witness.
func (s *script) began(pairs int, kernel bool) error {
	e := newEnv()
	e.told = true
	s.w, s.story, s.zero, s.backup = newPair(e, "a", "b", pair.DefaultPolicy()), story{}, 0, nil
	s.w.record.Name = "sales"
	for i := 1; i < pairs; i++ {
		newPair(e, fmt.Sprintf("c%d", i), fmt.Sprintf("d%d", i), pair.DefaultPolicy())
	}
	for _, h := range s.w.hosts {
		h.kernel = kernel
	}
	e.begin()
	if err := s.until("armed", func() bool {
		return !slices.ContainsFunc(e.pairs, func(w *world) bool { return !w.record.Armed() })
	}); err != nil {
		return err
	}
	s.run(2 * time.Second)
	s.zero = s.w.now
	s.story = story{}
	s.story.observe(s)
	s.story.forget()
	s.whoServes()
	return nil
}

// exposingBound is lease and fence time of the default policy.
const exposingBound = 3500 * time.Millisecond

// beganExposing is began with engines that cannot hold commits.
func (s *script) beganExposing(strict bool) error {
	if err := s.began(1, false); err != nil {
		return err
	}
	for _, h := range s.w.parts {
		h.db.bound, h.db.strict = exposingBound, strict
	}
	s.run(time.Second) // both are heard to say so
	s.zero = s.w.now
	s.story = story{}
	s.story.observe(s)
	s.story.forget()
	return nil
}

// serves says whether a host acknowledges writes right now.
func (s *script) serves(name string) bool {
	h := s.w.hosts[name]
	return h.db.open() && s.story.host == name && s.w.now-s.story.last < stall
}

func (s *script) told() string { return s.story.tell(s.zero) }

// args are the words of a line that its step leaves open, by their name.
type args map[string]string

// in puts the words of the line in the place of those that stand for them.
func (a args) in(words string) string {
	for kind, word := range a {
		words = strings.ReplaceAll(words, kind, word)
	}
	return words
}

// find looks a line's step up.
func find(line string) (step, args, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return step{}, nil, fmt.Errorf("an empty line within a block: is the ---- missing?")
	}
	var near []string
	var wrong error
	for _, st := range steps() {
		a, ok, err := st.match(words)
		if ok && err == nil {
			return st, a, nil
		}
		if ok && wrong == nil {
			wrong = err
		}
		if first, _, _ := strings.Cut(st.words, " "); first == words[0] {
			near = append(near, st.words)
		}
	}
	switch {
	case wrong != nil:
		return step{}, nil, wrong
	case near != nil:
		return step{}, nil, fmt.Errorf("%q is no step; there are: %s", line, strings.Join(near, ", "))
	}
	return step{}, nil, fmt.Errorf("%q is no step: testdata/README.md lists them", line)
}

// match compares a line with a step's words; those in capitals stand for what the line says.
func (st step) match(words []string) (args, bool, error) {
	pattern := strings.Fields(st.words)
	if len(pattern) != len(words) {
		return nil, false, nil
	}
	a := args{}
	for i, want := range pattern {
		if want == strings.ToUpper(want) {
			a[want] = words[i]
		} else if want != words[i] {
			return nil, false, nil
		}
	}
	for kind, word := range a {
		if err := check(kind, word); err != nil {
			return nil, true, err
		}
	}
	return a, true, nil
}

// check says what is wrong with a word of a kind.
func check(kind, word string) error {
	switch kind {
	case "HOST":
		if word != "a" && word != "b" {
			return fmt.Errorf("%q is no host: there are a (the primary at the beginning) and b", word)
		}
	case "LINK":
		if x, y, ok := ends(word); !ok || !strings.Contains("abw", x) || !strings.Contains("abw", y) || x == y {
			return fmt.Errorf("%q is no link: write a-b for both directions, a>b for one; w is the witness", word)
		}
	case "TIME":
		if d, err := time.ParseDuration(word); err != nil || d <= 0 || d > time.Hour {
			return fmt.Errorf("%q is no time: write 500ms, 5s, 2m", word)
		}
	case "OP":
		if _, ok := operations[word]; !ok {
			return fmt.Errorf("%q is no operation of a database: there are promote, hold, follow, hand-over, stop", word)
		}
	case "N":
		if n, err := strconv.Atoi(word); err != nil || n < 1 || n > 100 {
			return fmt.Errorf("%q is no number from 1 to 100", word)
		}
	}
	return nil
}

// ends are the two parties of a link, each one letter.
func ends(link string) (x, y string, ok bool) {
	if len(link) != 3 || link[1] != '-' && link[1] != '>' {
		return "", "", false
	}
	return link[:1], link[2:], true
}

// wish is what an operator asks for; a refusal is part of the story and no mistake.
func (s *script) wish(text string, wish pair.Wish) {
	s.story.add(s.w.now, "operator: %s", text)
	if s.w.leader == nil {
		s.story.add(s.w.now, "nobody answers: the witness has no leader")
		return
	}
	if r := s.w.ask(wish); r != nil {
		s.story.add(s.w.now, "refused: %v", r)
	}
}
