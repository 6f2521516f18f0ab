package link

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// checkAnswer refuses a message as a whole. What is wrong with one pair only is that pair's own matter.
func checkAnswer(m *witnessv1.Answer) error {
	switch {
	case m.GetTerm() == 0:
		return malformed("answer without a term")
	case len(m.GetPairs()) > maxPairs || len(m.GetRemoved()) > maxPairs:
		return malformed("answer about more than %d pairs", maxPairs)
	}
	return nil
}

func checkPairNames(m *witnessv1.PairAnswer) error {
	return cmp.Or(
		checkName("the pair's id", m.GetPair()),
		checkOptionalName("the pair's name", m.GetName()),
		checkOptionalName("the instance's name", m.GetInstance()))
}

// checkWitnessSays refuses what the record cannot say. hold relies on it: a lease without an end, or a guard
// that is missing, would be a primary that does not stop.
func checkWitnessSays(s hold.WitnessSays) error {
	t := s.Timing
	err := cmp.Or(
		checkOptionalName("the primary", s.Primary), checkOptionalName("the mirror", s.Mirror),
		checkOptionalName("the partner's host", s.Peer.Host),
		checkOptionalName("the partner's instance", s.Peer.Instance),
		checkOptionalName("the partner's system id", s.Peer.SystemID),
		checkLength("lease", s.Lease), checkLength("longest lease", s.Longest),
		checkLength("policy: heartbeat", t.Heartbeat), checkLength("policy: lease", t.Lease),
		checkLength("policy: guard", t.Guard), checkLength("policy: mirror timeout", t.MirrorTimeout),
	)
	switch {
	case err != nil:
		return err
	case len(s.Peer.LinkAddress) > maxAddress || len(s.Peer.ServiceAddress) > maxAddress:
		return malformed("address of more than %d bytes", maxAddress)
	case s.Forming != (s.Epoch == 0):
		return malformed("epoch %d while forming is %t", s.Epoch, s.Forming)
	case s.Epoch > 0 && s.Primary == "":
		return malformed("epoch %d has no primary", s.Epoch)
	case t.Heartbeat == 0 || t.Guard == 0 || t.MirrorTimeout == 0 || t.Lease <= t.Guard:
		return malformed("policy with heartbeat %v, lease %v, guard %v, mirror timeout %v",
			t.Heartbeat, t.Lease, t.Guard, t.MirrorTimeout)
	case s.Longest == 0 || s.Lease > s.Longest:
		return malformed("lease of %v, the longest is %v", s.Lease, s.Longest)
	}
	return nil
}

// checkPairs refuses what no agent says of the pairs that it shares with another.
func checkPairs(list []*witnessv1.PartnerSays) error {
	if len(list) > maxPairs {
		return malformed("%d pairs, more than %d", len(list), maxPairs)
	}
	for _, m := range list {
		err := cmp.Or(
			checkName("the pair's id", m.GetPair()),
			checkOptionalName("the primary", m.GetPrimary()),
			checkOptionalName("the system id", m.GetEngine().GetSystemId()),
			checkLength("longest lease", m.GetLongestLease().AsDuration()),
			checkLength("lease", m.GetLease().AsDuration()),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// unknown is a value that a newer witness uses.
func unknown(what string, value fmt.Stringer) error {
	return malformed("%s %v is not known to this agent", what, value)
}

// oddity is something in a message that was not understood.
type oddity struct{ pair, what string }

// maxOddities bounds how many different ones are told.
const maxOddities = 200

// oddities tells each once: the next heartbeat brings the same again.
type oddities struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[oddity]bool
}

func (o *oddities) note(list []oddity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, odd := range list {
		if o.told[odd] || len(o.told) >= maxOddities {
			continue
		}
		if o.told == nil {
			o.told = map[oddity]bool{}
		}
		o.told[odd] = true
		o.log.Warn("message of the witness not understood; nothing is assumed", "pair", odd.pair, "what", odd.what)
	}
}
