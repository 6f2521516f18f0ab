package whole

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// tap reads what one start of an agent says to the witness and to its partner, and what it hears, off the wire.
// Nothing in the system knows of it.
type tap struct {
	w    *world
	host string

	mu      sync.Mutex
	beats   map[uint64]time.Duration // when a heartbeat was first sent, by sequence
	asks    map[uint64]time.Duration // the same of requests to the partner
	grants  []grant
	answers []heard
	reports []report
}

// report is what a heartbeat said of one pair.
type report struct {
	at time.Duration
	*witnessv1.PairReport
}

// grant is a lease that has arrived.
type grant struct {
	from    string // node, or partner's host
	pair    string
	epoch   uint64
	sent    time.Duration // when the request left that it answers
	arrived time.Duration
	partner bool
}

// heard is an answer of the witness that has arrived.
type heard struct {
	node    string
	sent    time.Duration
	arrived time.Duration
	term    uint64
	leases  int
}

func newTap(w *world, host string) *tap {
	return &tap{w: w, host: host, beats: map[uint64]time.Duration{}, asks: map[uint64]time.Duration{}}
}

func (t *tap) dial(ctx context.Context, from *raftstoretest.Host, to string) (net.Conn, error) {
	conn, err := dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(to, ":")
	c := &tapped{Conn: conn}
	if strings.HasSuffix(to, linkPort) {
		c.out.message = func(m []byte) { t.ask(m) }
		c.in.message = func(m []byte) { t.vouched(name, m) }
	} else {
		c.out.message = func(m []byte) { t.beat(m) }
		c.in.message = func(m []byte) { t.answered(name, m) }
	}
	c.out.skip = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return c, nil
}

func (t *tap) beat(raw []byte) {
	var m witnessv1.SessionRequest
	if proto.Unmarshal(raw, &m) != nil || m.GetHeartbeat() == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, twice := t.beats[m.GetHeartbeat().GetSequence()]; twice {
		return
	}
	t.beats[m.GetHeartbeat().GetSequence()] = t.w.now()
	for _, r := range m.GetHeartbeat().GetPairs() {
		t.reports = append(t.reports, report{at: t.w.now(), PairReport: r})
	}
}

func (t *tap) answered(node string, raw []byte) {
	var m witnessv1.SessionResponse
	if proto.Unmarshal(raw, &m) != nil || m.GetAnswer() == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := m.GetAnswer()
	h := heard{node: node, sent: t.beats[a.GetSequence()], arrived: t.w.now(), term: a.GetTerm()}
	for _, p := range a.GetPairs() {
		if p.GetLease().AsDuration() > 0 {
			h.leases++
			t.grants = append(t.grants, grant{
				from: node, pair: p.GetPair(), epoch: p.GetEpoch(), sent: h.sent, arrived: h.arrived,
			})
		}
	}
	t.answers = append(t.answers, h)
}

func (t *tap) ask(raw []byte) {
	var m witnessv1.LinkRequest
	if proto.Unmarshal(raw, &m) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asks[m.GetSequence()] = t.w.now()
}

func (t *tap) vouched(partner string, raw []byte) {
	var m witnessv1.LinkResponse
	if proto.Unmarshal(raw, &m) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range m.GetPairs() {
		if p.GetLease().AsDuration() > 0 {
			t.grants = append(t.grants, grant{
				from: partner, pair: p.GetPair(), epoch: p.GetEpoch(), sent: t.asks[m.GetSequence()],
				arrived: t.w.now(), partner: true,
			})
		}
	}
}

// lastSent is when the request left that the newest lease in force answers: that of the witness, of the partner,
// or (both) whichever left later.
func (t *tap) lastSent(witness, partner bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := time.Duration(-1)
	for _, g := range t.grants {
		if g.partner && partner || !g.partner && witness {
			last = max(last, g.sent)
		}
	}
	return last
}

// answersFrom lists the answers of a node that have arrived at or after an instant.
func (t *tap) answersFrom(node string, since time.Duration) []heard {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []heard
	for _, h := range t.answers {
		if h.arrived >= since && h.node == node {
			list = append(list, h)
		}
	}
	return list
}

// reported lists what was said of pairs at or after an instant.
func (t *tap) reported(since time.Duration) []report {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []report
	for _, r := range t.reports {
		if r.at >= since {
			list = append(list, r)
		}
	}
	return list
}

// tapped is a connection that is listened to.
type tapped struct {
	net.Conn
	in, out frames
}

// Read passes on what arrives.
func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.take(p[:n])
	return n, err
}

// Write passes on what leaves, before it leaves.
func (c *tapped) Write(p []byte) (int, error) {
	c.out.take(p)
	return c.Conn.Write(p)
}

// frames cuts one direction of an HTTP/2 connection into the messages of gRPC.
type frames struct {
	mu      sync.Mutex
	skip    int // bytes before the first frame
	rest    []byte
	streams map[uint32][]byte
	message func([]byte)
}

const (
	frameHeader   = 9 // length (3), type, flags, stream (4)
	messageHeader = 5 // compressed, length (4)
)

func (f *frames) take(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	skip := min(f.skip, len(p))
	f.skip, p = f.skip-skip, p[skip:]
	f.rest = append(f.rest, p...)
	for len(f.rest) >= frameHeader {
		length := int(f.rest[0])<<16 | int(f.rest[1])<<8 | int(f.rest[2])
		if len(f.rest) < frameHeader+length {
			return
		}
		if isData := f.rest[3] == 0; isData {
			f.data(binary.BigEndian.Uint32(f.rest[5:]), f.rest[frameHeader:frameHeader+length])
		}
		f.rest = f.rest[frameHeader+length:]
	}
}

func (f *frames) data(stream uint32, p []byte) {
	if f.streams == nil {
		f.streams = map[uint32][]byte{}
	}
	have := append(f.streams[stream], p...)
	for len(have) >= messageHeader {
		end := messageHeader + int(binary.BigEndian.Uint32(have[1:]))
		if len(have) < end {
			break
		}
		f.message(have[messageHeader:end])
		have = have[end:]
	}
	f.streams[stream] = have
}
