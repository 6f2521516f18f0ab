package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Place is where a client is.
type Place struct {
	On       *Host // nil: on a machine of its own
	Loopback bool  // connects to 127.0.0.1
}

// Work is what a client does.
type Work int

// The two kinds of clients.
const (
	Commits Work = iota // one insert after the other, each a transaction
	Reads               // one select after the other
)

func (w Work) String() string {
	if w == Commits {
		return "commits"
	}
	return "reads"
}

// Client says what one client does, where, and what it connects to.
type Client struct {
	Place Place
	Work  Work
	To    []string // addresses; of several, libpq's way, the first that lets it write
	Name  string   // of what it connects to: a host's, or words
	Brief bool     // ends its session after each statement
	Libpq bool     // a psql process for each session, instead of pgx; only outside of the hosts

	outside *namespace // set when it runs
}

// Answer is one statement that a server answered.
type Answer struct {
	Client  *Client
	Host    string // whose server it was, by its own word
	Primary bool   // it took a commit, or said that it is not in recovery
	Row     int64  // of a commit
	Sent    time.Time
	At      time.Time
}

// Loss is a session that ended although its client did not want it to, or one that could not be made.
type Loss struct {
	Client  *Client
	Primary bool      // the session's last answer came from a primary
	Answers int       // that the session had; 0: it could not be made
	Began   time.Time // the session, or the try to make it
	Last    time.Time // of the answers
	At      time.Time
	Why     string
}

const (
	// statementPause is the time between two statements of one client.
	statementPause = 5 * time.Millisecond
	// retryPause is the time before a client connects again.
	retryPause = 20 * time.Millisecond
	// patience is how long a client waits for an answer before it opens a second session. The first one goes on
	// waiting: what it is told late is what these clients are here to see.
	patience = time.Second
	// severalTimeout is connect_timeout of a client with several addresses: without one it would wait for the first
	// that is frozen and never try the second.
	severalTimeout = 2 * time.Second
	// sessionsAtMost bounds the sessions of one client that wait.
	sessionsAtMost = 6
)

// Clients are many clients of one pair, each of which holds a session open for as long as it can.
type Clients struct {
	pair   *Pair
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	answers  []Answer
	losses   []Loss
	refusals map[*Client]int
}

// Places are where clients of the pair can be, as seen from one of its hosts: outside, on it by its own address
// and by 127.0.0.1, and on its partner.
func (p *Pair) Places(h *Host) []Place {
	other := p.Hosts[0]
	if other == h {
		other = p.Hosts[1]
	}
	return []Place{{}, {On: h}, {On: h, Loopback: true}, {On: other}}
}

// Direct are clients of both databases of the pair, from everywhere and of both kinds: 16.
func (p *Pair) Direct() []*Client {
	var list []*Client
	for _, h := range p.Hosts {
		for _, place := range p.Places(h) {
			to := h.Database
			if place.Loopback {
				to = "127.0.0.1:5432"
			}
			for _, work := range []Work{Commits, Reads} {
				list = append(list, &Client{Place: place, Work: work, To: []string{to}, Name: h.Name})
			}
		}
	}
	return list
}

// Gated are clients of the pair outside of both hosts: by the gate of either host, by both gates and by both databases
// as libpq tries several addresses, and to each database itself.
func (p *Pair) Gated() []*Client {
	a, b := p.Hosts[0], p.Hosts[1]
	list := []*Client{
		{Work: Commits, To: []string{a.Gate, b.Gate}, Name: BothGates},
		{Work: Commits, To: []string{a.Gate, b.Gate}, Name: BothGates, Brief: true},
		{Work: Commits, To: []string{a.Database, b.Database}, Name: BothDatabases},
	}
	for _, h := range p.Hosts {
		for _, work := range []Work{Commits, Reads} {
			list = append(list,
				&Client{Work: work, To: []string{h.Gate}, Name: GateOf(h)},
				&Client{Work: work, To: []string{h.Gate}, Name: GateOf(h), Brief: true},
				&Client{Work: work, To: []string{h.Database}, Name: h.Name})
		}
	}
	return list
}

// Writers are the pair's users and its judges: three clients that know both hosts, one of them with libpq itself, and
// for each host two that write to its database alone, from outside and from the host itself, whoever is primary.
func (p *Pair) Writers() []*Client {
	a, b := p.Hosts[0].Database, p.Hosts[1].Database
	list := []*Client{
		{Work: Commits, To: []string{a, b}, Name: BothDatabases, Libpq: true},
		{Work: Commits, To: []string{a, b}, Name: BothDatabases},
		{Work: Commits, To: []string{b, a}, Name: BothDatabases},
	}
	for _, h := range p.Hosts {
		for _, place := range []Place{{}, {On: h}} {
			list = append(list, &Client{Place: place, Work: Commits, To: []string{h.Database}, Name: h.Name})
		}
	}
	return list
}

// Direct says whether the client connects to one host's database alone, so that it is a judge and no user.
func (c *Client) Direct() bool { return len(c.To) == 1 && !c.ByGate() }

// What the clients of Gated connect to, besides hosts.
const (
	BothGates     = "both gates"
	BothDatabases = "both databases"
)

// GateOf names the gate of a host.
func GateOf(h *Host) string { return gatePrefix + h.Name }

const gatePrefix = "gate of "

// ByGate says whether the client connects to gates only.
func (c *Client) ByGate() bool { return c.Name == BothGates || strings.HasPrefix(c.Name, gatePrefix) }

// Run starts the clients. The table that they write to is made first, at the primary.
func (p *Pair) Run(ctx context.Context, primary *Host, clients []*Client) (*Clients, error) {
	c, err := primary.engine.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s to make the clients' table: %w", primary.Name, err)
	}
	err = c.write(ctx, p.rows.Add(1))
	c.close()
	if err != nil {
		return nil, fmt.Errorf("make the clients' table at %s: %w", primary.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	all := &Clients{pair: p, cancel: cancel, refusals: map[*Client]int{}}
	for _, one := range clients {
		one.outside = primary.fleet.outside
		all.ended.Go(func() { all.keep(ctx, one) })
	}
	return all, nil
}

// Stop ends the clients.
func (c *Clients) Stop() {
	c.cancel()
	c.ended.Wait()
}

// session is one connection of a client.
type session struct {
	busy   atomic.Pointer[time.Time] // until when it may wait without being parked; nil: it does not wait
	parked atomic.Bool               // another session has taken its place: it ends with the answer it waits for
	ended  chan struct{}
}

// keep keeps one session of the client at work, and a new one whenever that waits for too long.
func (c *Clients) keep(ctx context.Context, client *Client) {
	var waiting atomic.Int32
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	open := func() *session {
		s := &session{ended: make(chan struct{})}
		waiting.Add(1)
		c.ended.Go(func() {
			defer waiting.Add(-1)
			defer close(s.ended)
			c.serve(ctx, client, s)
		})
		return s
	}
	s := open()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			s = open()
		case <-ticker.C:
			until := s.busy.Load()
			if until != nil && time.Now().After(*until) && waiting.Load() < sessionsAtMost {
				s.parked.Store(true)
				s = open()
			}
		}
	}
}

// serve is one session from its beginning to its end.
func (c *Clients) serve(ctx context.Context, client *Client, s *session) {
	loss := Loss{Client: client, Began: time.Now()}
	err := c.work(ctx, client, s, &loss)
	if ctx.Err() != nil || err == nil {
		return
	}
	loss.At, loss.Why = time.Now(), err.Error()
	c.mu.Lock()
	c.losses = append(c.losses, loss)
	c.mu.Unlock()
	if !s.parked.Load() {
		pause(ctx, retryPause)
	}
}

// work returns nil if the session ended by its own will.
func (c *Clients) work(ctx context.Context, client *Client, s *session, loss *Loss) error {
	trying := time.Now().Add(patience)
	if len(client.To) > 1 {
		trying = trying.Add(time.Duration(len(client.To)) * severalTimeout)
	}
	s.busy.Store(&trying)
	conn, err := client.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	// A session that has become possible late, and is parked by then, still asks once: a server that went on must not
	// answer it.
	for first := true; ctx.Err() == nil && (first || !s.parked.Load()); first = false {
		sent := time.Now()
		until := sent.Add(patience)
		s.busy.Store(&until)
		a, err := c.statement(ctx, conn, client)
		s.busy.Store(nil)
		if errors.Is(err, errRefused) {
			// A mirror refuses a commit and goes on listening.
			loss.Primary = false
			c.refused(client)
			pause(ctx, retryPause)
			continue
		}
		if err != nil {
			return err
		}
		a.Client, a.Sent, a.At = client, sent, time.Now()
		c.mu.Lock()
		c.answers = append(c.answers, a)
		c.mu.Unlock()
		loss.Answers++
		loss.Primary, loss.Last = a.Primary, a.At
		pause(ctx, statementPause)
		if client.Brief {
			return nil
		}
	}
	return nil
}

// refused counts a statement that a server refused and went on.
func (c *Clients) refused(client *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals[client]++
}

// Refusals is how often a server refused a statement of the client's and went on, as a mirror refuses a commit.
func (c *Clients) Refusals(client *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusals[client]
}

// statement carries out one statement. The server's data directory says whose server it is, also through a gate.
func (c *Clients) statement(ctx context.Context, conn talk, client *Client) (Answer, error) {
	a := Answer{}
	sql := "select pg_is_in_recovery(), current_setting('data_directory')"
	if client.Work == Commits {
		a.Row = c.pair.rows.Add(1)
		sql = fmt.Sprintf("insert into acknowledged values (%d) returning false, current_setting('data_directory')", a.Row)
	}
	row, err := conn.ask(ctx, sql)
	if err != nil {
		return Answer{}, err
	}
	if len(row) != 2 {
		return Answer{}, fmt.Errorf("unexpected answer %q to %q", row, sql)
	}
	a.Primary = row[0] == "f"
	for _, h := range c.pair.Hosts {
		if strings.HasPrefix(row[1], h.dir+string(filepath.Separator)) {
			a.Host = h.Name
		}
	}
	if a.Host == "" {
		return Answer{}, fmt.Errorf("a server of nobody answered: data directory %s", row[1])
	}
	return a, nil
}
