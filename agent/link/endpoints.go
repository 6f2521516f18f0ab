package link

import (
	"context"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// The endpoints of the configuration are tried for ever. A Welcome names further ones, so that an agent whose
// configuration is older than the witness's present nodes still reaches them all. An endpoint that was learned
// is dropped when its node is reached at another one, and forgotten when it has not answered for a long time
// and no node that does names it any more: then its node was removed.

// forgetAfter is how many tries in a row a learned endpoint gets; with the longest delay between them that is
// about a minute, more than a node takes to come back.
const forgetAfter = 30

// begin starts a session. Called by Run's goroutine, with mu held.
func (w *Witness) begin(ctx context.Context, endpoint string, configured bool) {
	ctx, stop := context.WithCancelCause(ctx)
	s := &session{witness: w, endpoint: endpoint, configured: configured, stop: stop}
	w.sessions[endpoint] = s
	w.running.Go(func() {
		defer stop(nil)
		s.run(ctx)
	})
}

// joined makes the session one that heartbeats go by.
func (w *Witness) joined(s *session, m *witnessv1.Welcome, out outbox[*witnessv1.SessionRequest]) {
	w.mu.Lock()
	s.node, s.nodes, s.out = m.GetNode(), usable(m), out
	w.mu.Unlock()
	w.welcomes.put(struct{}{})
}

// renamed takes a further Welcome of a running session in.
func (w *Witness) renamed(s *session, m *witnessv1.Welcome) {
	w.mu.Lock()
	s.nodes = usable(m)
	w.mu.Unlock()
	w.welcomes.put(struct{}{})
}

// usable are the nodes of a Welcome that can be tried, and not more than a witness can have.
func usable(m *witnessv1.Welcome) []*witnessv1.WitnessNode {
	var nodes []*witnessv1.WitnessNode
	for _, n := range m.GetNodes() {
		bad := checkName("node", n.GetId()) != nil || checkAddress(n.GetApiAddress()) != nil
		if !bad && len(nodes) < maxNodes {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// left takes the session out of use. The next heartbeat goes by all if it was the preferred one.
func (w *Witness) left(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retire(s)
}

// retire is left with mu held.
func (w *Witness) retire(s *session) {
	s.out = nil
	if w.preferred == s {
		w.preferred = nil
	}
}

// review brings the sessions in line with what the Welcomes say.
func (w *Witness) review(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	reached := w.reached()
	learned := 0
	var named []*witnessv1.WitnessNode
	for _, s := range w.sessions {
		if !s.configured {
			learned++
		}
		if s.up() {
			named = append(named, s.nodes...)
		}
	}
	for _, n := range named {
		if reached[n.GetId()] == nil && w.sessions[n.GetApiAddress()] == nil && learned < maxNodes {
			w.begin(ctx, n.GetApiAddress(), false)
			learned++
		}
	}
}

// reached returns the session that reaches each node, and drops learned ones that reach the same.
func (w *Witness) reached() map[string]*session {
	reached := map[string]*session{}
	for _, s := range w.sessions {
		other := reached[s.node]
		switch {
		case !s.up() || s.node == "":
		case other == nil:
			reached[s.node] = s
		case !s.configured:
			w.drop(s)
		case !other.configured:
			w.drop(other)
			reached[s.node] = s
		}
	}
	return reached
}

func (w *Witness) drop(s *session) {
	w.retire(s)
	delete(w.sessions, s.endpoint)
	s.stop(errElsewhere)
}

// forget gives a learned endpoint up if the nodes that answer do not name it.
func (w *Witness) forget(s *session) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	someUp := false
	for _, other := range w.sessions {
		if !other.up() {
			continue
		}
		someUp = true
		for _, n := range other.nodes {
			if n.GetApiAddress() == s.endpoint {
				return false
			}
		}
	}
	if s.configured || !someUp {
		return false
	}
	delete(w.sessions, s.endpoint)
	return true
}
