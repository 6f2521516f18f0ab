package main

import (
	"context"
	"errors"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// linkRows are each of the three links, lost in both directions and in one.
func linkRows() []row {
	const lasts = 10 * time.Second
	partner := "exposed after the mirror time-out; nobody moves, the witness hears both"
	primary := "served on the partner's lease; nobody moves"
	mirror := "nobody notices; no failover possible meanwhile"
	both := []party{thePrimary, theMirror}
	return []row{
		{
			flag: "link-pm", name: "link primary-mirror lost for 10 s", limit: exposeLimit, lasts: lasts,
			decision: exposes(partner), fault: together(partnerLost(thePrimary), partnerLost(theMirror)), touches: both,
		},
		{
			flag: "link-p-m", name: "only primary to mirror lost for 10 s", limit: exposeLimit, lasts: lasts,
			decision: exposes(partner), fault: partnerLost(thePrimary), touches: both,
		},
		{
			flag: "link-m-p", name: "only mirror to primary lost for 10 s", limit: exposeLimit, lasts: lasts,
			decision: exposes(partner), fault: partnerLost(theMirror), touches: both,
		},
		{
			flag: "link-pw", name: "link primary-witness lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(primary), fault: together(toWitnessLost(thePrimary), fromWitnessLost(thePrimary)),
			touches: []party{thePrimary, theWitness},
		},
		{
			flag: "link-p-w", name: "only primary to witness lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(primary), fault: toWitnessLost(thePrimary), touches: []party{thePrimary, theWitness},
		},
		{
			flag: "link-w-p", name: "only witness to primary lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(primary), fault: fromWitnessLost(thePrimary), touches: []party{thePrimary, theWitness},
		},
		{
			flag: "link-mw", name: "link mirror-witness lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(mirror), fault: together(toWitnessLost(theMirror), fromWitnessLost(theMirror)),
			touches: []party{theMirror, theWitness},
		},
		{
			flag: "link-m-w", name: "only mirror to witness lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(mirror), fault: toWitnessLost(theMirror), touches: []party{theMirror, theWitness},
		},
		{
			flag: "link-w-m", name: "only witness to mirror lost for 10 s", limit: unnoticed, lasts: lasts,
			decision: nobodyMoves(mirror), fault: fromWitnessLost(theMirror), touches: []party{theMirror, theWitness},
		},
	}
}

// lineRows are about lines that are bad without being cut.
func lineRows() []row {
	undecided := decision{
		says:  "either: the lease may or may not be renewed in time; never two primaries, nothing lost",
		epoch: either, right: anyRight, service: anyService,
	}
	return []row{
		{
			flag: "line-loss", name: "30 % of all packets lost on the primary's cable for 30 s", decision: undecided,
			lab: lab{Lines: true}, badLine: true, fault: badLine(thePrimary, fleet.Line{Loss: 0.3}), lasts: 30 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "line-delay", name: "200 ms delay each way on the primary's cable for 30 s", decision: undecided,
			lab: lab{Lines: true}, badLine: true, fault: badLine(thePrimary, fleet.Line{Delay: 200 * time.Millisecond}),
			lasts: 30 * time.Second, touches: []party{thePrimary},
		},
		{
			flag: "line-both", name: "30 % loss and 200 ms delay each way on the primary's cable for 30 s",
			decision: undecided, lab: lab{Lines: true}, badLine: true,
			fault: badLine(thePrimary, fleet.Line{Loss: 0.3, Delay: 200 * time.Millisecond}), lasts: 30 * time.Second,
			touches: []party{thePrimary},
		},
	}
}

// partnerLost loses what a host sends to its partner.
func partnerLost(from party) fault {
	return func(_ context.Context, r *run) (func() error, error) {
		h, other := r.host(from), r.host(r.partner(from))
		return func() error { return h.MendToward(other) }, h.CutToward(other)
	}
}

// toWitnessLost loses what a host sends to all nodes.
func toWitnessLost(from party) fault {
	return eachNode(from, (*fleet.Host).CutTowardNode, (*fleet.Host).MendTowardNode)
}

// fromWitnessLost loses what all nodes send to a host.
func fromWitnessLost(to party) fault {
	return eachNode(to, func(h *fleet.Host, n *fleet.Node) error { return n.CutToward(h) },
		func(h *fleet.Host, n *fleet.Node) error { return n.MendToward(h) })
}

func eachNode(which party, do, undo func(*fleet.Host, *fleet.Node) error) fault {
	return func(_ context.Context, r *run) (func() error, error) {
		h := r.host(which)
		all := func(one func(*fleet.Host, *fleet.Node) error) error {
			var errs []error
			for _, n := range r.fleet.Nodes {
				errs = append(errs, one(h, n))
			}
			return errors.Join(errs...)
		}
		return func() error { return all(undo) }, all(do)
	}
}

func badLine(which party, l fleet.Line) fault {
	return onHost(which, func(h *fleet.Host) error { return h.SetLine(l) },
		func(h *fleet.Host) error { return h.SetLine(fleet.Line{}) })
}
