package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

// interruptAfter is somebody who presses Ctrl-C.
func (c *console) interruptAfter(d time.Duration) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.ctx = ctx
	time.AfterFunc(d, cancel)
}

// TestColors: only on a terminal, and only if they are wanted.
func TestColors(t *testing.T) {
	tests := []struct {
		name     string
		terminal bool
		line     string
		env      map[string]string
		want     bool
	}{
		{"a terminal", true, "pair list", nil, true},
		{"a pipe", false, "pair list", nil, false},
		{"a flag", true, "pair list --no-color", nil, false},
		{"NO_COLOR", true, "pair list", map[string]string{"NO_COLOR": "1"}, false},
		{"a dumb terminal", true, "pair list", map[string]string{"TERM": "dumb"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.pair(nodetest.Pair("sales"))
				if tt.terminal {
					c.terminal("")
				}
				maps.Copy(c.env, tt.env)
				c.expect(tt.line, exitDone)
				if got := strings.Contains(c.out.String(), "\x1b["); got != tt.want {
					t.Errorf("colors: %v, want %v\n%s", got, tt.want, c.out)
				}
			})
		})
	}
}

const noteWidth = 100

// TestWidth: a terminal cuts lines to its width, a pipe only notes.
func TestWidth(t *testing.T) {
	long := nodetest.Pair("sales", nodetest.Paused)
	long.Pause.Reason = strings.Repeat("very ", 30) + "long"
	at(t, func(c *console) {
		c.pair(long)
		c.expect("pair list", exitDone, long.GetPause().GetReason()[:noteWidth-1]+"…\n")
		c.expect("pair show sales", exitDone, long.GetPause().GetReason())
		c.terminal("")
		c.expect("pair list --no-color", exitDone, "…")
		for line := range strings.Lines(c.out.String()) {
			if n := len([]rune(strings.TrimSpace(line))); n > 100 {
				t.Errorf("%d characters: %s", n, line)
			}
		}
	})
}

// watched sends a view each second, of a pair that is armed and then exposed.
func (c *console) watched() {
	start := time.Now()
	c.Do("WatchPairs", func(call nodetest.Call, send func(proto.Message) error) error {
		for first := true; ; first = false {
			p := nodetest.Pair("sales")
			if time.Since(start) >= 2*time.Second {
				nodetest.Exposed(p)
			}
			p.AsOf = nil // said once, in the message
			m := &witnessv1.WatchPairsResponse{Reset_: first, Complete: true, AsOf: nodetest.AsOf(), Pairs: []*witnessv1.Pair{p}}
			if time.Since(start) >= 4*time.Second {
				m.Pairs, m.Removed = nil, []string{p.GetId()}
			}
			if err := send(m); err != nil {
				return err
			}
			select {
			case <-call.Context.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	})
}

// TestWatchPipe: a line for each change, none for each refresh, also across a node that dies.
func TestWatchPipe(t *testing.T) {
	at(t, func(c *console) {
		c.watched()
		time.AfterFunc(1500*time.Millisecond, func() { c.Kill("w1:7401") })
		c.interruptAfter(10 * time.Second)
		c.golden("watch-pipe", "pair watch")
	})
	at(t, func(c *console) { // of one pair, its removal is the end
		c.watched()
		c.expect("pair watch sales", exitDone, "sales: removed")
	})
}

func TestWatchJSON(t *testing.T) {
	at(t, func(c *console) {
		c.watched()
		c.interruptAfter(2500 * time.Millisecond)
		c.expect("pair watch -o json", exitInterrupted)
		n := 0
		for line := range strings.Lines(c.out.String()) {
			var m witnessv1.WatchPairsResponse
			fromJSON(t, line, &m)
			n++
		}
		if n != 3 {
			t.Errorf("%d lines, want 3:\n%s", n, c.out)
		}
	})
}

// TestWatchTerminal: the screen is repainted, without ever being blank.
func TestWatchTerminal(t *testing.T) {
	at(t, func(c *console) {
		c.watched()
		c.terminal("")
		c.interruptAfter(2500 * time.Millisecond)
		c.expect("pair watch --no-color", exitInterrupted)
		frames := strings.Split(c.out.String(), "\x1b[H")[1:]
		if len(frames) != 3 || strings.Contains(c.out.String(), "\x1b[2J") {
			t.Fatalf("%d frames:\n%q", len(frames), c.out)
		}
		last := frames[2]
		if !strings.Contains(last, "1 pair: 1 exposed\x1b[K\n") || !strings.HasSuffix(last, "\x1b[J") {
			t.Errorf("got %q", last)
		}
	})
	at(t, func(c *console) { // when nothing comes any more, what is on the screen is not passed off as the present
		c.watched()
		c.terminal("")
		time.AfterFunc(1500*time.Millisecond, func() {
			for _, a := range []string{"w1:7401", "w2:7401", "w3:7401"} {
				c.Kill(a)
			}
		})
		c.interruptAfter(5500 * time.Millisecond)
		c.expect("pair watch --no-color", exitInterrupted, "NO NEWS for ", "s: what is below is old.")
		frames := strings.Split(c.out.String(), "\x1b[H")
		if !strings.Contains(frames[len(frames)-1], "NO NEWS") {
			t.Errorf("got %q", frames[len(frames)-1])
		}
	})
	at(t, func(c *console) { // a log is told once
		c.watched()
		time.AfterFunc(1500*time.Millisecond, func() {
			for _, a := range []string{"w1:7401", "w2:7401", "w3:7401"} {
				c.Kill(a)
			}
		})
		time.AfterFunc(8*time.Second, func() { c.Start("w2:7401") })
		c.interruptAfter(20 * time.Second)
		c.expect("pair watch", exitInterrupted)
		if n := strings.Count(c.err.String(), "no news"); n != 1 {
			t.Errorf("told %d times:\n%s", n, c.err)
		}
	})
	at(t, func(c *console) { // one pair fills the screen with all that is known
		c.watched()
		c.terminal("")
		c.interruptAfter(500 * time.Millisecond)
		c.expect("pair watch sales --no-color", exitInterrupted, "would fail over if the primary were lost now")
	})
}

// TestProgress: what takes longer than two seconds is told of, on a terminal in one line that goes away.
func TestProgress(t *testing.T) {
	slow := func(c *console) {
		c.Do("ListPairs", func(call nodetest.Call, send func(proto.Message) error) error {
			if err := waitThenFail(3500*time.Millisecond, nil)(call, send); err != nil {
				return err
			}
			return send(&witnessv1.ListPairsResponse{AsOf: nodetest.AsOf()})
		})
	}
	at(t, func(c *console) {
		slow(c)
		c.expect("pair list", exitDone)
		if got, want := c.err.String(), "... no answer from the witness yet (2.0s)\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	at(t, func(c *console) {
		slow(c)
		c.terminal("")
		c.expect("pair list", exitDone)
		want := "\r\x1b[K... no answer from the witness yet (2.0s)\r\x1b[K... no answer from the witness yet (3.0s)\r\x1b[K"
		if got := c.err.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	at(t, func(c *console) { // what is soon there is not told of
		c.Do("ListPairs", func(call nodetest.Call, send func(proto.Message) error) error {
			if err := waitThenFail(1900*time.Millisecond, nil)(call, send); err != nil {
				return err
			}
			return send(&witnessv1.ListPairsResponse{AsOf: nodetest.AsOf()})
		})
		c.expect("pair list", exitDone)
		if got := c.err.String(); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

// TestSettings: a flag counts before the environment, and the environment before the file.
func TestSettings(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, ".config", "witnessctl.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(c *console, line string, env map[string]string) string {
		c.env, c.surrounding.home = env, home
		c.pair(nodetest.Pair("sales"))
		c.expect(line, exitDone)
		calls := c.Calls("ListPairs")
		return calls[len(calls)-1].Node
	}
	write("endpoints: [w3:7401]\noutput: json\ntimeout: 3s\n")
	at(t, func(c *console) {
		if got := ask(c, "pair list", nil); got != "w3:7401" || !strings.HasPrefix(c.out.String(), "{") {
			t.Errorf("file: asked %s\n%s", got, c.out)
		}
		env := map[string]string{"WITNESS_ENDPOINTS": " w2:7401 , w1:7401"}
		if got := ask(c, "pair list", env); got != "w2:7401" {
			t.Errorf("environment: asked %s", got)
		}
		if got := ask(c, "pair list -e w1:7401,w2:7401 --endpoint w3:7401 -o table", env); got != "w1:7401" ||
			strings.HasPrefix(c.out.String(), "{") {
			t.Errorf("flag: asked %s", got)
		}
		other := filepath.Join(home, "other.yaml")
		if err := os.WriteFile(other, []byte("endpoints: [w2:7401]"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ask(c, "pair list", map[string]string{"WITNESSCTL_CONFIG": other}); got != "w2:7401" {
			t.Errorf("another file: asked %s", got)
		}
		c.Start("localhost:7401")
		write("")
		if got := ask(c, "pair list", nil); got != "localhost:7401" {
			t.Errorf("nothing said: asked %s", got)
		}
		write("endpoint: [w3:7401]\n")
		c.expect("pair list", exitUsage, `unknown field "endpoint"`, file,
			"the file may say endpoints, timeout, output and color: see docs/witnessctl.md")
		write("endpoints: [w3:7401]\ntimeout: soon\n")
		c.expect("pair list", exitUsage, file)
		c.expect("pair list --config "+filepath.Join(home, "none.yaml"), exitUsage, "read configuration", "--config")
	})
}
