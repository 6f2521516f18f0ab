package protocol

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestTextWrongSteps: who writes a scenario is told what is wrong, and in which line.
func TestTextWrongSteps(t *testing.T) {
	for _, c := range []struct {
		block string
		line  int
		want  string
	}{
		{"crash database a", 0, `there is no pair yet: begin with the step "pair"`},
		{"pair\nlose hots a", 1, `"lose hots a" is no step; there are: lose host HOST, lose leader, lose witness`},
		{"pair\nfreze agent a", 1, `"freze agent a" is no step: testdata/README.md lists them`},
		{"pair\nlose host x", 1, `"x" is no host: there are a (the primary at the beginning) and b`},
		{"pair\ncut a-q", 1, `"a-q" is no link`},
		{"pair\ncut a>a", 1, `"a>a" is no link`},
		{"pair\nrun soon", 1, `"soon" is no time`},
		{"pair\nfail jump a", 1, `"jump" is no operation`},
		{"pair\nuntil epoch zero", 1, `"zero" is no number`},
		{"pair\n\nrun 5s", 1, "an empty line within a block: is the ---- missing?"},
		{"pair\nuntil b serves", 1, "not b serves within 1m0s"},
		{"pair\nuntil epoch 2", 1, "not epoch 2 within 1m0s"},
		{"pair\nheal a-b", 1, "a>b is not cut"},
		{"pair\nstart host a", 1, "a is there"},
		{"pair\nlose host a\nlose host a", 2, "a is not there"},
		{"pair\nwitness back", 1, "the witness is there"},
		{"pair\nthaw a", 1, "a is not frozen"},
	} {
		out, bad := (&script{}).block(strings.Split(c.block, "\n"))
		if bad == nil {
			t.Errorf("%q was played:\n%s", c.block, out)
			continue
		}
		if bad.line != c.line || !strings.HasPrefix(bad.what, c.want) {
			t.Errorf("%q: line %d: %q, want line %d: %q", c.block, bad.line, bad.what, c.line, c.want)
		}
	}
}

func TestTextPlace(t *testing.T) {
	if got := place("testdata/what-happens/x.txt:14", 2); got != "testdata/what-happens/x.txt:16" {
		t.Error(got)
	}
}

// play plays blocks that must go well.
func (s *script) play(t *testing.T, blocks ...string) string {
	t.Helper()
	var out string
	for _, b := range blocks {
		told, bad := s.block(strings.Split(b, "\n"))
		if bad != nil {
			t.Fatalf("%q: %s\n%s", b, bad.what, told)
		}
		out += told
	}
	return out
}

// TestTextSeesViolations: a guarantee that does not hold ends a scenario, whatever its expected output says.
func TestTextSeesViolations(t *testing.T) {
	t.Run("two primaries", func(t *testing.T) {
		s := &script{}
		s.play(t, "pair")
		if _, bad := s.block([]string{"freeze agent a", "run 10s"}); bad == nil || !strings.Contains(bad.what, "G1:") {
			t.Errorf("not seen: %v", bad)
		}
	})
	t.Run("two primaries while something else is waited for", func(t *testing.T) {
		s := &script{}
		s.play(t, "pair")
		if _, bad := s.block([]string{"freeze agent a", "until epoch 3"}); bad == nil || !strings.Contains(bad.what, "G1:") {
			t.Errorf("not seen: %v", bad)
		}
	})
	t.Run("nor does a later block forgive it", func(t *testing.T) {
		s := &script{}
		s.play(t, "pair", "freeze agent a\nuntil two primaries")
		if _, bad := s.block([]string{"who serves"}); bad == nil {
			t.Error("the scenario goes on")
		}
		s.play(t, "pair\nrun 1s")
	})
	t.Run("lost commits of a primary that opens", func(t *testing.T) {
		s := &script{}
		s.play(t, "pair")
		s.w.ack(1<<30, "a") // that no database has
		if _, bad := s.block([]string{"crash database a", "run 5s"}); bad == nil || !strings.Contains(bad.what, "G2:") {
			t.Errorf("not seen: %v", bad)
		}
	})
	t.Run("lost commits of a primary that is open", func(t *testing.T) {
		s := &script{}
		s.play(t, "pair")
		s.w.ack(1<<30, "a")
		if _, bad := s.block([]string{"who serves"}); bad == nil || !strings.Contains(bad.what, "G2:") {
			t.Errorf("not seen: %v", bad)
		}
	})
}

// TestTextIsStable: the same steps tell the same story, however often.
func TestTextIsStable(t *testing.T) {
	story := func() string {
		s := &script{}
		return s.play(t, "pairs 3", "cut a-w\ncut a-b\nuntil b serves\nwho serves\nwrites", "heal all\nuntil armed\nwrites")
	}
	first := story()
	for range 4 {
		if again := story(); again != first {
			t.Fatalf("once:\n%s\nand again:\n%s", first, again)
		}
	}
}

// TestTextStory: attempts are counted, not repeated, and what is known later goes where it belongs.
func TestTextStory(t *testing.T) {
	s := &script{}
	s.play(t, "pair")
	s.w.hosts["b"].fail[hold.OpFollow] = 3
	told := s.play(t, "crash database b\nuntil armed\nrun 20s\nwrites")
	if !strings.Contains(told, "b: database is made to follow (4 times)\n") {
		t.Errorf("attempts are not counted:\n%s", told)
	}
	stops := strings.Index(told, "no write is acknowledged")
	goesOn := strings.Index(told, "a acknowledges writes, after")
	if stops < 0 || goesOn < stops {
		t.Errorf("the pause is not told in order:\n%s", told)
	}
}
