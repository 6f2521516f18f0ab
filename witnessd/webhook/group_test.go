package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// group is a witness whose nodes share a log that is applied everywhere at once, in the virtual time of a bubble.
type group struct {
	t      *testing.T
	secret string
	inbox  *inbox

	mu      sync.Mutex
	index   uint64
	ledgers map[string]*ledger.Ledger
	entries [][]byte // of cursors
	leader  string
	stops   map[string]func()
	fail    error // of every proposal
}

func newGroup(t *testing.T, nodes ...string) *group {
	g := &group{
		t: t, secret: secretFile(t, testSecret+"\n"), inbox: newInbox(), ledgers: make(map[string]*ledger.Ledger),
		stops: make(map[string]func()),
	}
	for _, n := range nodes {
		g.ledgers[n] = ledger.New()
	}
	g.put(ledger.EncodeCommand(pair.Command{Pair: "id-sales", Term: 1, At: time.Now().UnixMilli(), Body: pair.Create{
		Name: "sales", Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(),
		Members: [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}},
	}}))
	g.put(ledger.EncodeRaise(1))
	t.Cleanup(g.stopAll)
	return g
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (g *group) put(entry []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.apply(entry)
}

func (g *group) apply(entry []byte) {
	g.index++
	for _, l := range g.ledgers {
		if result, ok := l.Apply(g.index, 1, entry).(ledger.Result); !ok || result.Refusal != nil {
			g.t.Errorf("entry %d refused: %v", g.index, result.Refusal)
		}
	}
}

func (g *group) any() *ledger.Ledger {
	for _, l := range g.ledgers {
		return l
	}
	return nil
}

// happen adds events of a kind to the history.
func (g *group) happen(n int, kind pair.FactKind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range n {
		r, _ := g.any().Pair("id-sales")
		g.apply(ledger.EncodeCommand(pair.Command{Pair: r.ID, Revision: r.Revision, Term: 1, At: time.Now().UnixMilli(),
			Body: pair.Note{Kind: kind, Cause: "test"}}))
	}
}

var errDeposed = errors.New("this node does not lead")

// lead makes a node the leader; the one before goes on as if it were, but its proposals fail.
func (g *group) lead(node string, hooks ...Hook) *prometheus.Registry {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	for i := range hooks {
		hooks[i].SecretFile = g.secret
		if hooks[i].Timeout == 0 {
			hooks[i].Timeout = DefaultTimeout
		}
		if bad := hooks[i].Validate(); len(bad) > 0 {
			g.t.Fatal(bad)
		}
	}
	g.mu.Lock()
	g.leader = node
	l := g.ledgers[node]
	g.mu.Unlock()
	s, err := New(Options{
		Hooks: hooks, Ledger: l, Transport: g.inbox, Registry: registry,
		Log: slog.New(slog.DiscardHandler),
		Propose: func(ctx context.Context, entry []byte) error {
			time.Sleep(2 * time.Millisecond)
			g.mu.Lock()
			defer g.mu.Unlock()
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case g.leader != node:
				return errDeposed
			case g.fail != nil:
				return g.fail
			}
			g.entries = append(g.entries, entry)
			g.apply(entry)
			return nil
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	g.stops[node] = func() { cancel(); <-done }
	return registry
}

func (g *group) stop(node string) {
	if stop := g.stops[node]; stop != nil {
		stop()
		delete(g.stops, node)
	}
}

func (g *group) stopAll() {
	for n := range g.stops {
		g.stop(n)
	}
}

// restart gives every node a new ledger, made of the snapshot of one.
func (g *group) restart() {
	g.t.Helper()
	g.stopAll()
	g.mu.Lock()
	defer g.mu.Unlock()
	write, err := g.any().Snapshot()
	if err != nil {
		g.t.Fatal(err)
	}
	var file bytes.Buffer
	if err := write(&file); err != nil {
		g.t.Fatal(err)
	}
	for n := range g.ledgers {
		g.ledgers[n] = ledger.New()
		if err := g.ledgers[n].Restore(bytes.NewReader(file.Bytes())); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *group) cursors() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.entries)
}

// letter is a call that a receiver got.
type letter struct {
	at       time.Time
	id       string
	kind     string
	sequence uint64
	body     map[string]any
}

// inbox is every receiver of a test. It checks signatures by itself, as a receiver would.
type inbox struct {
	mu      sync.Mutex
	letters map[string][]letter // taken, by the receiver's host
	calls   map[string]int
	// answer says what a receiver does; nil: it takes everything at once.
	answer map[string]func(n int) (status int, after time.Duration, header http.Header)
	bad    []string
}

func newInbox() *inbox {
	return &inbox{letters: map[string][]letter{}, calls: map[string]int{},
		answer: map[string]func(int) (int, time.Duration, http.Header){}}
}

func (b *inbox) is(host string, answer func(n int) (int, time.Duration, http.Header)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer[host] = answer
}

// says is a receiver that answers always so.
func says(status int, after time.Duration) func(int) (int, time.Duration, http.Header) {
	return func(int) (int, time.Duration, http.Header) { return status, after, nil }
}

func (b *inbox) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	host := req.URL.Host
	b.mu.Lock()
	n, answer := b.calls[host], b.answer[host]
	b.calls[host]++
	b.mu.Unlock()
	status, after, header := 200, time.Duration(0), http.Header(nil)
	if answer != nil {
		status, after, header = answer(n)
	}
	select {
	case <-time.After(after):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	if status < 300 {
		b.take(host, req.Header, body)
	}
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status), Header: header, Request: req,
		Body: io.NopCloser(endless{}),
	}, nil
}

// endless is an answer's body that nobody should read to its end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func (b *inbox) take(host string, h http.Header, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if why := verify(h, body, testSecret, time.Now()); why != "" {
		b.bad = append(b.bad, why)
	}
	var m struct {
		Type, Timestamp string
		Data            map[string]any
	}
	if err := json.Unmarshal(body, &m); err != nil {
		b.bad = append(b.bad, err.Error())
	}
	sequence, _ := strconv.ParseUint(fmt.Sprint(m.Data["sequence"]), 10, 64)
	b.letters[host] = append(b.letters[host], letter{
		at: time.Now(), id: h.Get("webhook-id"), kind: m.Type, sequence: sequence, body: m.Data,
	})
}

// verify is what the specification asks of a receiver, written without a look at how we sign.
func verify(h http.Header, body []byte, secret string, now time.Time) string {
	seconds, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return "stale: " + h.Get("Webhook-Timestamp")
	}
	key, err := base64.StdEncoding.DecodeString(secret[len("whsec_"):])
	if err != nil {
		return err.Error()
	}
	want := hmac.New(sha256.New, key)
	want.Write([]byte(h.Get("Webhook-Id") + "." + h.Get("Webhook-Timestamp") + "." + string(body)))
	for one := range strings.SplitSeq(h.Get("Webhook-Signature"), " ") {
		version, text, _ := strings.Cut(one, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(got, want.Sum(nil)) {
			return ""
		}
	}
	return "no signature matches: " + h.Get("Webhook-Signature")
}

func (b *inbox) of(host string) []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.letters[host])
}

func (b *inbox) called(host string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[host]
}

// check fails unless a receiver has every event from first to last, each for the first time in order, and all that
// was signed was signed well. It returns how many it got more than once.
func (b *inbox) check(t *testing.T, host string, first, last uint64) (again int) {
	t.Helper()
	want := first
	ids := map[string]string{}
	for _, l := range b.of(host) {
		if known, ok := ids[l.id]; ok {
			if again++; known != fmt.Sprint(l.body) {
				t.Errorf("%s: %s came with two bodies", host, l.id)
			}
			continue
		}
		ids[l.id] = fmt.Sprint(l.body)
		if l.sequence != want {
			t.Errorf("%s: got %s %d, want event %d", host, l.kind, l.sequence, want)
			return again
		}
		want++
	}
	if want != last+1 {
		t.Errorf("%s: got events up to %d, want %d", host, want-1, last)
	}
	if len(b.bad) > 0 {
		t.Errorf("%s", b.bad)
	}
	return again
}

// metric reads a value of a webhook.
func metric(t *testing.T, registry *prometheus.Registry, name, hook string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == hook {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Errorf("no metric %s of %s", name, hook)
	return 0
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// pass lets time go by, and all that is due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func hook(name string) Hook {
	return Hook{Name: name, URL: "https://" + name + ".example/in?token=hush"}
}
