package rpc

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// domain is that of every ErrorInfo of the witness.
const domain = "witnessd"

// The reasons of the edge, beside those of package pair and of the arbiter.
const (
	reasonNoLeader       pair.Reason = "NO_LEADER"       // try again: nothing was changed
	reasonNotLeader      pair.Reason = "NOT_LEADER"      // between nodes: ask another, nothing was changed
	reasonBusy           pair.Reason = "BUSY"            // try again: nothing was changed
	reasonOutcomeUnknown pair.Reason = "OUTCOME_UNKNOWN" // look before you try again
	reasonBadRequest     pair.Reason = "BAD_REQUEST"     // the message itself is wrong
	reasonGroup          pair.Reason = "GROUP_CHANGE"    // nodes could not be changed as asked
	reasonCut            pair.Reason = "STREAM_CUT"      // half an answer came: ask for all of it again
	reasonStopping       pair.Reason = "STOPPING"        // this node is being stopped: use another
	reasonInternal       pair.Reason = "INTERNAL"

	reasonNodeBehind      pair.Reason = "NODE_BEHIND"      // a node lacks entries; nothing was changed
	reasonNodeUnreachable pair.Reason = "NODE_UNREACHABLE" // a new node does not answer; nothing was changed
)

// NodeBehind refuses what needs a node that has all entries.
func NodeBehind(detail, do string) *pair.Refusal {
	return &pair.Refusal{Reason: reasonNodeBehind, Detail: detail, Do: do}
}

// NodeUnreachable refuses to take in a node that is not there: in a group of three it would count toward the
// quorum and never fill it.
func NodeUnreachable(node, address string) *pair.Refusal {
	return &pair.Refusal{Reason: reasonNodeUnreachable, Detail: node + " does not answer at " + address,
		Do: "start it with join: true, then repeat"}
}

// code says which gRPC code a refusal has. What is not listed is a state of things that an operator, an
// agent or time must change first.
func code(reason pair.Reason) codes.Code {
	switch reason {
	case pair.ReasonUnknownPair, pair.ReasonNoProcedure:
		return codes.NotFound
	case pair.ReasonNameTaken:
		return codes.AlreadyExists
	case pair.ReasonBadSpec, reasonBadRequest:
		return codes.InvalidArgument
	case pair.ReasonStaleRevision, pair.ReasonStaleTerm, pair.ReasonStaleEpoch, pair.ReasonChangeUndecided,
		"SESSION_REPLACED", reasonCut:
		return codes.Aborted
	case "TOO_MANY_SESSIONS":
		return codes.ResourceExhausted
	case reasonNoLeader, reasonNotLeader, reasonBusy, reasonStopping:
		return codes.Unavailable
	case reasonOutcomeUnknown:
		return codes.Unknown // never Unavailable: clients repeat that by themselves
	case reasonInternal:
		return codes.Internal
	default:
		return codes.FailedPrecondition
	}
}

// failure is an error on its way to a client. The pair, if one is concerned, is what the client called it.
func (s *Server) failure(err error, name string) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	var refusal *pair.Refusal
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, ErrUnknownPair):
		refusal = &pair.Refusal{Reason: pair.ReasonUnknownPair, Detail: "there is no pair " + name,
			Do: "see witnessctl pair list"}
	case errors.Is(err, ErrNotLeading):
		refusal = &pair.Refusal{Reason: reasonNotLeader, Detail: "this node does not lead"}
	case errors.Is(err, ErrBusy):
		refusal = &pair.Refusal{Reason: reasonBusy, Detail: "the witness is busy", Do: "try again"}
	case errors.Is(err, ErrOutcomeUnknown):
		refusal = &pair.Refusal{Reason: reasonOutcomeUnknown,
			Detail: "the leader was lost, and whether the change was accepted is not known",
			Do:     "look at the pair before trying again"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default:
		refusal = &pair.Refusal{Reason: reasonInternal, Detail: err.Error()}
	}
	return s.refused(refusal, name)
}

// refused is a refusal as a gRPC status. A status travels in headers, which must stay small, and the refusal may
// quote what the caller said, of any length: callers could not read what is too long, and would see an INTERNAL
// error of gRPC's own.
func (s *Server) refused(r *pair.Refusal, name string) error {
	r, name = brief(r), cutTo(name, maxWord)
	info := &errdetails.ErrorInfo{
		Reason: string(r.Reason), Domain: domain, Metadata: map[string]string{"node": s.node},
	}
	for key, value := range map[string]string{"pair": name, "do": r.Do, "leader": s.group.Leader()} {
		if value != "" {
			info.Metadata[key] = value
		}
	}
	st := status.New(code(r.Reason), r.Error())
	if detailed, err := st.WithDetails(info); err == nil {
		st = detailed
	}
	return st.Err()
}

// brief is a refusal that fits into headers, and into one message beside others.
func brief(r *pair.Refusal) *pair.Refusal {
	return &pair.Refusal{Reason: r.Reason, Detail: cut(r.Detail), Do: cut(r.Do)}
}

// reasonOf is the reason that an error of the witness carries, or empty.
func reasonOf(err error) pair.Reason {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return pair.Reason(info.GetReason())
		}
	}
	return ""
}

// unheard says whether a call that failed is known to have changed nothing because nobody heard it.
func unheard(err error) bool {
	switch reasonOf(err) {
	case reasonNotLeader, reasonNoLeader:
		return true
	default:
		return false
	}
}
