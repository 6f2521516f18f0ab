package endpoints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusal is the witness's no: nothing was changed by the call that it answers.
type Refusal struct {
	Endpoint string            // who said so
	Reason   string            // for programs; never renamed
	Detail   string            // what, with the values concerned
	Do       string            // what can be done about it; may be empty
	Metadata map[string]string // all that came with it
	// Doubt: an earlier try of the same call was sent and not answered. It may have been accepted, and be
	// the very reason of this refusal.
	Doubt bool
}

// Error tells all of it in one line.
func (r *Refusal) Error() string {
	text := r.Detail
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	if r.Do != "" {
		text += "; " + r.Do
	}
	return text
}

// Reasons that this package acts on. With those of the first group nothing was changed, and another node or
// another moment may do; with the last one it is not known whether anything was.
const (
	reasonNoLeader  = "NO_LEADER"
	reasonNotLeader = "NOT_LEADER"
	reasonBusy      = "BUSY"

	reasonChangeUndecided = "CHANGE_UNDECIDED"
	reasonStaleTerm       = "STALE_TERM"

	reasonOutcomeUnknown = "OUTCOME_UNKNOWN"
)

// passing: refused for a reason that goes away by itself within moments, nothing changed.
func (r *Refusal) passing() bool {
	return r.Reason == reasonChangeUndecided || r.Reason == reasonStaleTerm
}

// Unanswered means that no node gave an answer in time.
type Unanswered struct {
	Tries    []Try // the newest of each endpoint
	NoLeader bool  // a node was there and knew of no leader
	Doubt    bool  // a request was sent and its answer never came: it may have been accepted

	last *Refusal // a refusal that was waited out in vain
}

// Try is what came of asking one endpoint.
type Try struct {
	Endpoint, Why string

	late bool // it was asked, and its time was up before it had answered
}

// Error lists the endpoints with what came of asking them.
func (u *Unanswered) Error() string {
	if len(u.Tries) == 0 {
		return "no endpoint answered in time"
	}
	var parts []string
	for _, t := range u.Tries {
		parts = append(parts, t.Endpoint+": "+t.Why)
	}
	return strings.Join(parts, "; ")
}

// note remembers the newest result of each endpoint. A connection that was given up because another was
// ready first is no news.
func (u *Unanswered) note(endpoint, why string) { u.put(Try{Endpoint: endpoint, Why: why}) }

func (u *Unanswered) put(try Try) {
	i, found := slices.BinarySearchFunc(u.Tries, try.Endpoint,
		func(t Try, e string) int { return cmp.Compare(t.Endpoint, e) })
	if found {
		u.Tries[i] = try
		return
	}
	u.Tries = slices.Insert(u.Tries, i, try)
}

// Interrupted means that the caller gave up.
type Interrupted struct{ Doubt bool }

// Error says so.
func (*Interrupted) Error() string { return "interrupted" }

// kind is what the end of one try means.
type kind int

const (
	answered  kind = iota
	refused        // the witness decided: no
	unable         // the node cannot decide, and nothing was changed
	unreached      // no answer: whether anything was changed is not known
	failed         // an answer that no other node would better
)

// classify tells what a try came to. Programs switch on codes and reasons, never on text.
func classify(err error) (kind, string) {
	if err == nil {
		return answered, ""
	}
	st, ok := status.FromError(err)
	if !ok {
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			return unreached, "did not answer in time"
		default:
			return failed, err.Error()
		}
	}
	info := infoOf(st)
	switch st.Code() {
	case codes.DeadlineExceeded, codes.Canceled:
		return unreached, "did not answer in time"
	case codes.Unavailable, codes.Unknown:
		switch info.GetReason() {
		case reasonNoLeader, reasonNotLeader, reasonBusy:
			return unable, detail(st, info)
		case reasonOutcomeUnknown:
			return unreached, detail(st, info)
		}
		switch {
		case st.Code() == codes.Unknown:
			return failed, st.Message()
		case info != nil:
			return unreached, detail(st, info)
		default:
			return unreached, "ended the connection"
		}
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.ResourceExhausted:
		return refused, ""
	default:
		return failed, st.Message()
	}
}

// late says whether all that is known of a try is that its time was up.
func late(err error) bool {
	code := status.Code(err)
	return errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Canceled
}

// noLeader says whether a node's answer was that there is no leader.
func noLeader(err error) bool {
	reason := infoOf(status.Convert(err)).GetReason()
	return reason == reasonNoLeader || reason == reasonNotLeader
}

// detail is what happened without what to do about it, which the witness puts behind it for those who read
// the message alone.
func detail(st *status.Status, info *errdetails.ErrorInfo) string {
	return strings.TrimSuffix(st.Message(), "; "+info.GetMetadata()["do"])
}

func infoOf(st *status.Status) *errdetails.ErrorInfo {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

func refusalOf(err error, endpoint string) *Refusal {
	st := status.Convert(err)
	r := &Refusal{Endpoint: endpoint, Detail: st.Message(), Reason: st.Code().String()}
	if info := infoOf(st); info != nil {
		r.Reason, r.Metadata, r.Detail = info.GetReason(), info.GetMetadata(), detail(st, info)
		r.Do = r.Metadata["do"]
	}
	return r
}

// Failure returns what a node said of a fault of its own, or that of a version that does not know the call.
func Failure(err error) string {
	st, ok := status.FromError(err)
	switch {
	case !ok:
		return err.Error()
	case st.Code() == codes.Unimplemented:
		return "this witness does not know the call: its version is older than that of witnessctl"
	default:
		return fmt.Sprintf("%s (%s)", st.Message(), st.Code())
	}
}
