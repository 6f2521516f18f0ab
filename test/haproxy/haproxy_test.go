package haproxy

import (
	"testing"
	"time"
)

// What the example's comments promise, and what a busy machine may add.
const (
	roleSeen  = 600 * time.Millisecond  // of a host that answers
	agentLost = 1600 * time.Millisecond // of one that does not
	upSeen    = 250 * time.Millisecond  // of a new primary
	busy      = 700 * time.Millisecond
)

func (p *pair) within(what string, took, promised time.Duration) {
	p.t.Helper()
	p.t.Logf("%s after %v", what, took.Round(time.Millisecond))
	if took > promised+busy {
		p.t.Errorf("%s after %v, promised within %v", what, took, promised)
	}
}

// TestSwitchover: sessions are shut before the former primary could answer as a mirror, and new ones follow the role.
func TestSwitchover(t *testing.T) {
	p := newPair(t)
	writer, reader := p.must(p.writes, "db1"), p.must(p.reads, "db2")
	if !writer.works() || !reader.works() {
		t.Fatal("sessions do not work")
	}
	p.db1.is(handingOver)
	p.within("the writer is shut", p.cut(writer), roleSeen)
	p.until(p.writes, "")
	if !reader.works() {
		t.Error("the reader was shut although its mirror follows")
	}
	p.db1.is(nothing)
	p.db2.is(primary)
	p.within("new writers reach the new primary", p.until(p.writes, "db2"), upSeen)
	second := p.must(p.writes, "db2")
	p.within("the reader is shut", p.cut(reader), 1500*time.Millisecond)
	p.until(p.reads, "db2") // there is no mirror
	lone := p.must(p.reads, "db2")
	p.db1.is(mirror)
	p.within("new readers reach the new mirror", p.until(p.reads, "db1"), 2*time.Second)
	if !second.works() || !lone.works() {
		t.Error("sessions with the primary were shut because a mirror came")
	}
}

// TestAgentThatDoesNotAnswer: its host's sessions are shut in less than a lease, and nobody is sent there.
func TestAgentThatDoesNotAnswer(t *testing.T) {
	p := newPair(t)
	writer := p.must(p.writes, "db1")
	p.db1.freeze(true)
	p.within("the writer is shut", p.cut(writer), agentLost)
	p.db2.is(primary)
	p.within("new writers reach the new primary", p.until(p.writes, "db2"), upSeen)
	p.db1.is(mirror)
	p.db1.freeze(false)
	p.until(p.reads, "db1")
	p.must(p.writes, "db2")
}

// TestAgentThatIsGone: its port is closed.
func TestAgentThatIsGone(t *testing.T) {
	p := newPair(t)
	writer := p.must(p.writes, "db1")
	if err := p.db1.http.Close(); err != nil {
		t.Fatal(err)
	}
	p.within("the writer is shut", p.cut(writer), roleSeen)
}

// TestOneOddAnswer does not cut anybody off.
func TestOneOddAnswer(t *testing.T) {
	p := newPair(t)
	writer := p.must(p.writes, "db1")
	p.db1.oddAnswers(1)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !writer.works() {
			t.Fatal("the writer was shut")
		}
	}
	p.db1.mu.Lock()
	defer p.db1.mu.Unlock()
	if p.db1.odd != 0 {
		t.Error("nobody has asked")
	}
}

// TestLag: readers go to the primary while the mirror is too far behind, and come back.
func TestLag(t *testing.T) {
	p := newPair(t)
	reader := p.must(p.reads, "db2")
	p.db2.is(lagging)
	p.within("the reader is shut", p.cut(reader), 1500*time.Millisecond)
	p.until(p.reads, "db1")
	p.db2.is(mirror)
	p.within("new readers are back", p.until(p.reads, "db2"), 2*time.Second)
}
