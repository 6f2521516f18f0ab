package witnessd_test

import (
	"cmp"
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// This file says what one pair looks like to admin clients if the witness were a single program that answers one
// call after the other. Pairs are independent, so a history is checked pair by pair.

// call is what a client asked.
type call struct {
	verb   string // get, create, pause, observe, resume, policy, release-timeout, remove
	pair   string
	by     string
	expect uint64 // expected revision; zero: any
	// profile and release are what policy and release-timeout change.
	profile string
	release time.Duration
}

// answer is what came of it.
type answer struct {
	// unknown: it may have been carried out, then or at any later time.
	unknown bool
	reason  string // of a refusal
	created bool
	view    view
}

// view is a pair as its clients see it. The zero view is that there is none.
type view struct {
	there    bool
	id       string // empty: nobody has been told yet
	revision uint64
	mode     witnessv1.Mode
	by       string // who set the mode; seen only while the mode is not automatic
	profile  string
	lease    time.Duration
	release  time.Duration
}

func viewOf(p *witnessv1.Pair) view {
	if p == nil || p.GetStage() == witnessv1.Stage_STAGE_REMOVED {
		return view{}
	}
	return view{
		there: true, id: p.GetId(), revision: p.GetRevision(), mode: p.GetMode(), by: p.GetPause().GetBy(),
		profile: p.GetPolicy().GetProfile(), lease: p.GetPolicy().GetLease().AsDuration(), release: p.GetPolicy().GetReleaseTimeout().AsDuration(),
	}
}

// meets says whether an answer shows this state.
func (v view) meets(seen view) bool {
	if v.id == "" {
		v.id = seen.id
	}
	if v.mode == witnessv1.Mode_MODE_AUTOMATIC {
		v.by = ""
	}
	return v == seen
}

// The refusals of the rules: they say something about the pair at that moment.
const (
	unknownPair   = "UNKNOWN_PAIR"
	nameTaken     = "NAME_TAKEN"
	staleRevision = "STALE_REVISION"
)

// carryOut is the state after a call, or the reason why it is refused.
func carryOut(v view, c call) (next view, created bool, reason string) {
	base := pair.DefaultPolicy()
	switch {
	case c.verb == "create" && !v.there:
		return view{there: true, revision: 1, mode: witnessv1.Mode_MODE_AUTOMATIC, profile: base.Profile,
			lease: base.Lease, release: base.ReleaseTimeout}, true, ""
	case c.verb == "create" && v.profile != base.Profile:
		return v, false, nameTaken
	case c.verb == "create":
		return v, false, ""
	case !v.there:
		return v, false, unknownPair
	case c.expect != 0 && c.expect != v.revision:
		return v, false, staleRevision
	}
	next = v
	switch c.verb {
	case "get":
		return v, false, ""
	case "remove":
		return view{}, false, ""
	case "pause":
		next.mode, next.by = witnessv1.Mode_MODE_MANUAL, c.by
	case "observe":
		next.mode, next.by = witnessv1.Mode_MODE_OBSERVE, c.by
	case "resume":
		next.mode, next.by = witnessv1.Mode_MODE_AUTOMATIC, c.by
	case "policy":
		p, _ := pair.ProfilePolicy(c.profile)
		next.profile, next.lease, next.release = p.Profile, p.Lease, p.ReleaseTimeout
	case "release-timeout":
		next.release, next.profile = c.release, "custom"
		for _, name := range []string{"fast", "default", "patient"} {
			if p, _ := pair.ProfilePolicy(name); p.Lease == next.lease && p.ReleaseTimeout == next.release {
				next.profile = name
			}
		}
	default:
		panic("no such call: " + c.verb)
	}
	if next != v { // what is so already is not written again
		next.revision++
	}
	return next, false, ""
}

// register is the model. A call whose outcome is unknown has no end, so that it finds its place wherever it was
// carried out, and otherwise after everything else, where nobody sees it.
func register() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			var parts [][]porcupine.Operation
			of := make(map[string]int)
			for _, o := range history {
				name := o.Input.(call).pair
				i, ok := of[name]
				if !ok {
					i = len(parts)
					of[name], parts = i, append(parts, nil)
				}
				parts[i] = append(parts[i], o)
			}
			return parts
		},
		Init: func() any { return view{} },
		Step: func(state, input, output any) (bool, any) {
			v, c, a := state.(view), input.(call), output.(answer)
			next, created, reason := carryOut(v, c)
			switch {
			case a.unknown:
				return true, next
			case a.reason != "":
				return a.reason == reason, v
			case reason != "" || created != a.created || !next.meets(a.view):
				return false, v
			}
			next.id = cmp.Or(next.id, a.view.id)
			return true, next
		},
		DescribeOperation: func(input, output any) string { return describe(input.(call), output.(answer)) },
		DescribeState:     func(state any) string { return state.(view).String() },
	}
}

func describe(c call, a answer) string {
	s := c.verb
	if c.by != "" {
		s += " by " + c.by
	}
	switch {
	case c.expect != 0:
		s += fmt.Sprintf(" if %d", c.expect)
	case c.profile != "":
		s += " " + c.profile
	case c.release != 0:
		s += " " + c.release.String()
	}
	switch {
	case a.unknown:
		return s + " → ?"
	case a.reason != "":
		return s + " → " + a.reason
	default:
		return s + " → " + a.view.String()
	}
}

// String is a view in one line.
func (v view) String() string {
	if !v.there {
		return "none"
	}
	return fmt.Sprintf("%.4s@%d %s(%s) %s, release %v", v.id, v.revision, v.mode.String()[len("MODE_"):], v.by,
		v.profile, v.release)
}
