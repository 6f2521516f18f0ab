package link

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reasons of this package's own in a [SessionState]; all others are the other side's words.
const (
	// ReasonNotReached says nothing but that the other side is not reached (rule R11).
	ReasonNotReached = "NOT_REACHED"
	// ReasonMalformed says that the other side sent what cannot be right.
	ReasonMalformed = "MALFORMED_MESSAGE"
)

var (
	errNotOpened = errors.New("no answer to the opening of the connection within " + openTimeout.String())
	errSilent    = errors.New("requests went unanswered for " + linkSilence.String())
	errEnded     = errors.New("the other side ended the stream")
	errElsewhere = errors.New("the node is reached at another address")
	errUnwanted  = errors.New("no pair has its partner there any more")
)

// malformedError is a message that cannot be right.
type malformedError struct{ what string }

func (e *malformedError) Error() string { return "malformed message: " + e.what }

func malformed(format string, args ...any) error {
	return &malformedError{what: fmt.Sprintf(format, args...)}
}

// explain says for programs and for people why a connection ended, and whether the other side refused it in
// earnest: then trying again at once would bring the same.
func explain(err error) (reason, detail string, refused bool) {
	if wrong, ok := errors.AsType[*malformedError](err); ok {
		return ReasonMalformed, wrong.what, true
	}
	if errors.Is(err, io.EOF) {
		err = errEnded
	}
	s, ok := status.FromError(err)
	if !ok {
		return ReasonNotReached, err.Error(), false
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() != "" {
			// These two codes say that the next try may well succeed.
			passing := s.Code() == codes.Unavailable || s.Code() == codes.Aborted
			return text(info.GetReason()), text(s.Message()), !passing
		}
	}
	if s.Code() == codes.Unavailable {
		return ReasonNotReached, text(s.Message()), false
	}
	return ReasonNotReached, text(s.Code().String() + ": " + s.Message()), false
}
