package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Answers returns what was answered so far, in the order in which it arrived.
func (c *Clients) Answers() []Answer {
	c.mu.Lock()
	list := slices.Clone(c.answers)
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b Answer) int { return a.At.Compare(b.At) })
	return list
}

// Losses returns the sessions that ended against their client's will, and those that could not be made.
func (c *Clients) Losses() []Loss {
	c.mu.Lock()
	list := slices.Clone(c.losses)
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b Loss) int { return a.At.Compare(b.At) })
	return list
}

// Gap is the longest time between from and until without an acknowledged commit from any host, the ends included, for
// clients outside. Those on a host have a way of their own to its database.
func (c *Clients) Gap(from, until time.Time) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range c.Answers() {
		if a.Client.Work == Reads || a.Client.Place.On != nil || a.At.Before(from) || a.At.After(until) {
			continue
		}
		longest, last = max(longest, a.At.Sub(last)), a.At
	}
	return max(longest, until.Sub(last))
}

// Outage is the longest time between from and until without an acknowledged commit from any host, the ends included,
// for users: clients that know more than one address. A user that was about to connect may need longer than the pair:
// this is what all of them together saw.
func (c *Clients) Outage(from, until time.Time) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range c.Answers() {
		if a.Client.Work == Reads || a.Client.Direct() || a.At.Before(from) || a.At.After(until) {
			continue
		}
		longest, last = max(longest, a.At.Sub(last)), a.At
	}
	return max(longest, until.Sub(last))
}

// Double are commits that one host acknowledged between two of the other, closer together than the right could
// have moved there and back.
type Double struct {
	// Certain were asked and answered in that time: a split brain, whatever the network is like.
	Certain []Answer
	// Late were asked before and answered in that time: either a commit that was released too late, or an answer
	// that a bad line or a cut kept back on its way.
	Late []Answer
}

// Doubles looks at all commits, so the right may have moved as often as it likes.
func (c *Clients) Doubles() Double {
	var acks []Answer
	for _, a := range c.Answers() {
		if a.Client.Work == Commits && a.Primary {
			acks = append(acks, a)
		}
	}
	return doubles(acks)
}

// doubles wants answers in the order of their arrival.
func doubles(acks []Answer) Double {
	var found Double
	// after[i] is the first answer after i of another host than i's.
	after := make([]int, len(acks))
	for i := len(acks) - 1; i >= 0; i-- {
		after[i] = i + 1
		if i+1 < len(acks) && acks[i+1].Host == acks[i].Host {
			after[i] = after[i+1]
		}
	}
	before := -1 // the last answer before i of another host than i's
	for i, a := range acks {
		if i > 0 && acks[i-1].Host != a.Host {
			before = i - 1
		}
		next := after[i]
		if before < 0 || next == len(acks) || acks[next].At.Sub(acks[before].At) >= fastestReturn {
			continue
		}
		if surelyBetween(acks, i) {
			found.Certain = append(found.Certain, a)
		} else {
			found.Late = append(found.Late, a)
		}
	}
	return found
}

// surelyBetween says whether the other host acknowledged one commit before the i-th was even sent, and was sent another
// after that had been answered, all of it within less than the right takes to move there and back.
func surelyBetween(acks []Answer, i int) bool {
	a := acks[i]
	first, last := -1, -1
	for j := i - 1; j >= 0 && first < 0 && a.At.Sub(acks[j].At) < fastestReturn; j-- {
		if acks[j].Host != a.Host && acks[j].At.Before(a.Sent) {
			first = j
		}
	}
	for j := i + 1; j < len(acks) && last < 0 && acks[j].At.Sub(a.At) < fastestReturn; j++ {
		if acks[j].Host != a.Host && acks[j].Sent.After(a.At) {
			last = j
		}
	}
	return first >= 0 && last >= 0 && acks[last].At.Sub(acks[first].At) < fastestReturn
}

// Silence is the longest time that a client had no answer.
type Silence struct {
	Client *Client
	From   time.Time
	Long   time.Duration
}

// Silences are the longest ones of each client that had answers before and after it, longest first, since from.
func (c *Clients) Silences(from time.Time) []Silence {
	last, longest := map[*Client]time.Time{}, map[*Client]Silence{}
	for _, a := range c.Answers() {
		before, ok := last[a.Client]
		last[a.Client] = a.At
		if long := a.At.Sub(before); ok && a.At.After(from) && long > longest[a.Client].Long {
			longest[a.Client] = Silence{Client: a.Client, From: before, Long: long}
		}
	}
	list := slices.Collect(maps.Values(longest))
	slices.SortFunc(list, func(a, b Silence) int { return cmp.Compare(b.Long, a.Long) })
	return list
}

// Lost reads every row from the host and counts the acknowledged ones that are missing.
func (c *Clients) Lost(ctx context.Context, h *Host) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	answers := c.Answers()
	conn, err := h.engine.connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to %s to count rows: %w", h.Name, err)
	}
	defer conn.close()
	found, err := conn.rows(ctx, c.pair.rows.Load())
	if err != nil {
		return 0, fmt.Errorf("count rows at %s: %w", h.Name, err)
	}
	lost := 0
	for _, a := range answers {
		if a.Client.Work == Commits && !found[a.Row] {
			lost++
		}
	}
	return lost, nil
}

// View is a client's place as seen from the host that it connects to, with what it does.
type View struct {
	Place string
	Work  Work
}

// OnPartner says that the client was on the host that is to take over.
func (v View) OnPartner() bool { return v.Place == onPartner }

const onPartner = "on the partner"

func (v View) String() string { return v.Place + ", " + v.Work.String() }

// viewFrom names a client's place for somebody who looks from a host.
func viewFrom(h *Host, c *Client) View {
	v := View{Place: "outside", Work: c.Work}
	switch {
	case c.Name != h.Name:
		v.Place = "by " + c.Name
	case c.Place.On == h && c.Place.Loopback:
		v.Place = "inside by 127.0.0.1"
	case c.Place.On == h:
		v.Place = "inside"
	case c.Place.On != nil:
		v.Place = onPartner
	}
	return v
}

// Change is how the right to serve went from one host to another, as clients saw it.
type Change struct {
	// Served is when the new primary first served anybody, at the earliest; zero: never.
	Served time.Time
	// Last is when the old primary last answered as one, before or after that; absent: never.
	Last map[View]time.Time
	// Cut is when the first session to the old primary was lost; absent: none was.
	Cut map[View]time.Time
	// Overlap are the answers of the old primary, as one, that arrived after the new one first served.
	Overlap []Answer
}

// atOnce is more time than a statement takes that waits for nothing.
const atOnce = 20 * time.Millisecond

// Change looks at what was answered after from. The old primary's answers count from when they arrived, and reads of
// the new one from when they were sent: both make the margin smaller. A commit may have waited for long, so it counts
// from its arrival.
func (c *Clients) Change(from time.Time, before, after *Host) Change {
	ch := Change{Last: map[View]time.Time{}, Cut: map[View]time.Time{}}
	answers := c.Answers()
	for _, a := range answers {
		if a.Host != after.Name || !a.Primary || a.At.Before(from) {
			continue
		}
		at := a.At
		if a.Client.Work == Reads && a.At.Sub(a.Sent) < atOnce {
			at = a.Sent
		}
		if ch.Served.IsZero() || at.Before(ch.Served) {
			ch.Served = at
		}
	}
	for _, a := range answers {
		if a.Host != before.Name || !a.Primary {
			continue
		}
		ch.Last[viewFrom(before, a.Client)] = a.At
		if !ch.Served.IsZero() && !a.At.Before(ch.Served) {
			ch.Overlap = append(ch.Overlap, a)
		}
	}
	for _, l := range c.Losses() {
		v := viewFrom(before, l.Client)
		if _, known := ch.Cut[v]; known || l.Client.Name != before.Name || l.Answers == 0 || !l.Primary || l.At.Before(from) {
			continue
		}
		ch.Cut[v] = l.At
	}
	return ch
}

// Margin is the time from the old primary's last answer to the new one's first, and whose answer it was. False: the
// new primary never served, or the old one never answered.
func (ch Change) Margin() (time.Duration, View, bool) {
	var smallest time.Duration
	var whose View
	known := false
	for v, last := range ch.Last {
		if margin := ch.Served.Sub(last); !known || margin < smallest {
			smallest, whose, known = margin, v, true
		}
	}
	return smallest, whose, known && !ch.Served.IsZero()
}
