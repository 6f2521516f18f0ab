package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// console is a person or a script in front of witnessctl, and a witness of three nodes behind it. Time is
// that of a bubble: nothing here waits.
type console struct {
	*nodetest.Witness
	t           *testing.T
	surrounding surroundings
	ctx         context.Context
	env         map[string]string
	out, err    *paper
	code        int
	took        time.Duration
}

// at runs a test with a console. Nothing in it is a terminal until the test says so.
func at(t *testing.T, f func(c *console)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &console{Witness: nodetest.New(t, "w1:7401", "w2:7401", "w3:7401"), t: t, ctx: t.Context(),
			out: &paper{}, err: &paper{}, env: map[string]string{"WITNESS_ENDPOINTS": "w1:7401,w2:7401,w3:7401"}}
		c.surrounding = surroundings{
			in: strings.NewReader(""), out: c.out, err: c.err, size: func() (int, int) { return 100, 24 },
			getenv: func(name string) string { return c.env[name] }, by: "ann@desk", zone: time.UTC, dial: c.Dial,
		}
		f(c)
	})
}

// terminal makes all of it one, and types a line.
func (c *console) terminal(typed string) {
	c.surrounding.in = strings.NewReader(typed + "\n")
	c.surrounding.inTerminal, c.surrounding.outTerminal, c.surrounding.errTerminal = true, true, true
}

// run runs a command line and returns the exit code.
func (c *console) run(line string) int {
	c.t.Helper()
	c.out.reset()
	c.err.reset()
	start := time.Now()
	c.code = execute(c.ctx, c.surrounding, words(line))
	c.took = time.Since(start)
	return c.code
}

// words splits a command line; single quotes keep spaces.
func words(line string) []string {
	var list []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// expect runs a command line and looks for an exit code, and for texts on stdout or stderr.
func (c *console) expect(line string, code int, texts ...string) {
	c.t.Helper()
	if got := c.run(line); got != code {
		c.t.Errorf("%s: exit code %d, want %d\n%s", line, got, code, c.both())
	}
	for _, text := range texts {
		if !strings.Contains(c.both(), text) {
			c.t.Errorf("%s: %q is not in what was printed:\n%s", line, text, c.both())
		}
	}
}

// golden runs a command line and compares all that comes of it with a file.
func (c *console) golden(name, line string) {
	c.t.Helper()
	code := c.run(line)
	var b strings.Builder
	b.WriteString("$ witnessctl " + line + "\n" + c.out.String())
	if text := c.err.String(); text != "" {
		b.WriteString("--- stderr\n" + text)
	}
	if code != 0 {
		b.WriteString("--- exit code " + exitWord(code) + "\n")
	}
	nodetest.Golden(c.t, name+".txt", b.String())
}

func exitWord(code int) string {
	for _, e := range exitCodes() {
		if e.code == code {
			return e.word
		}
	}
	return "without a meaning"
}

func (c *console) both() string {
	return c.out.String() + "--- stderr\n" + c.err.String()
}

// last is the newest request of a method.
func (c *console) last(method string) proto.Message {
	c.t.Helper()
	calls := c.Calls(method)
	if len(calls) == 0 {
		c.t.Fatalf("%s was not called", method)
	}
	return calls[len(calls)-1].Request
}

// pair lets the witness know a pair.
func (c *console) pair(p *witnessv1.Pair) {
	c.Say("GetPair", &witnessv1.GetPairResponse{Pair: p})
	c.Say("ListPairs", &witnessv1.ListPairsResponse{Pairs: []*witnessv1.Pair{p}, AsOf: p.GetAsOf()})
}

// paper takes what is printed, from whichever goroutine.
type paper struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *paper) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Reset()
}
