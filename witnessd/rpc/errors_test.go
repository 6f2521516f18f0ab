package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// lonely is a group of which only the leader's name is known.
type lonely struct{ leader string }

func (l lonely) Leader() string                            { return l.leader }
func (lonely) Status() Status                              { return Status{} }
func (lonely) Read(context.Context) error                  { return nil }
func (lonely) AddNode(context.Context, ledger.Node) error  { return nil }
func (lonely) RemoveNode(context.Context, string) error    { return nil }
func (lonely) Transfer(context.Context, string) error      { return nil }
func (lonely) Backup(_ context.Context, w io.Writer) error { _, err := w.Write(nil); return err }
func server(leader string) *Server                         { return &Server{node: "n1", group: lonely{leader}} }
func refusal(reason pair.Reason, detail string) error {
	return &pair.Refusal{Reason: reason, Detail: detail}
}
func wrapped(err error) error { return fmt.Errorf("somewhere: %w", err) }
func info(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i
		}
	}
	return nil
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   codes.Code
		reason pair.Reason
	}{
		{wrapped(ErrNotLeading), codes.Unavailable, "NOT_LEADER"},
		{wrapped(ErrBusy), codes.Unavailable, "BUSY"},
		{wrapped(ErrOutcomeUnknown), codes.Unknown, "OUTCOME_UNKNOWN"},
		{wrapped(ErrUnknownPair), codes.NotFound, "UNKNOWN_PAIR"},
		{wrapped(refusal(pair.ReasonStaleEpoch, "x")), codes.Aborted, "STALE_EPOCH"},
		{refusal(pair.ReasonStaleRevision, "x"), codes.Aborted, "STALE_REVISION"},
		{refusal(pair.ReasonChangeUndecided, "x"), codes.Aborted, "CHANGE_UNDECIDED"},
		{refusal(pair.ReasonExposed, "x"), codes.FailedPrecondition, "EXPOSED"},
		{refusal("HOST_CLAIMED", "x"), codes.FailedPrecondition, "HOST_CLAIMED"},
		{refusal("SESSION_REPLACED", "x"), codes.Aborted, "SESSION_REPLACED"},
		{refusal("TOO_MANY_SESSIONS", "x"), codes.ResourceExhausted, "TOO_MANY_SESSIONS"},
		{refusal(pair.ReasonNameTaken, "x"), codes.AlreadyExists, "NAME_TAKEN"},
		{refusal(pair.ReasonBadSpec, "x"), codes.InvalidArgument, "BAD_SPEC"},
		{refusal(pair.ReasonNoProcedure, "x"), codes.NotFound, "NO_SUCH_PROCEDURE"},
		{wrapped(NodeBehind("n1 is 136 entries behind", "wait")), codes.FailedPrecondition, "NODE_BEHIND"},
		{wrapped(NodeUnreachable("n5", "n5:7400")), codes.FailedPrecondition, "NODE_UNREACHABLE"},
		{errors.New("disk"), codes.Internal, "INTERNAL"},
		{context.Canceled, codes.Canceled, ""},
		{wrapped(context.DeadlineExceeded), codes.DeadlineExceeded, ""},
	} {
		got := server("n2").failure(tt.err, "sales")
		if status.Code(got) != tt.code || reasonOf(got) != tt.reason {
			t.Errorf("%v: code %v, reason %q; want %v, %q", tt.err, status.Code(got), reasonOf(got), tt.code, tt.reason)
		}
	}
	if err := server("n2").failure(nil, ""); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// TestErrorSaysWhatToDo: metadata is for programs, the message for people.
func TestErrorSaysWhatToDo(t *testing.T) {
	unreachable := "n5 does not answer at n5:7400; start it with join: true, then repeat"
	if got := NodeUnreachable("n5", "n5:7400").Error(); got != unreachable {
		t.Errorf("message %q, want %q", got, unreachable)
	}
	err := server("n2").failure(&pair.Refusal{Reason: pair.ReasonExposed, Detail: "it is exposed", Do: "wait"}, "sales")
	i := info(err)
	if i.GetDomain() != "witnessd" || i.GetMetadata()["pair"] != "sales" || i.GetMetadata()["leader"] != "n2" ||
		i.GetMetadata()["node"] != "n1" || i.GetMetadata()["do"] != "wait" {
		t.Errorf("got %v", i)
	}
	if got := status.Convert(err).Message(); got != "it is exposed; wait" {
		t.Errorf("message %q", got)
	}
	// What the leader said is passed on as it is.
	if again := server("n3").failure(err, "crm"); info(again).GetMetadata()["leader"] != "n2" {
		t.Errorf("passed on: %v", info(again))
	}
	if _, named := info(server("").failure(ErrBusy, "")).GetMetadata()["leader"]; named {
		t.Error("a leader is named although none is known")
	}
}

// TestOnlyUnheardCallsAreRepeated: anything else may have changed something.
func TestOnlyUnheardCallsAreRepeated(t *testing.T) {
	for err, want := range map[error]bool{
		server("").failure(ErrNotLeading, ""):                               true,
		server("").refused(&pair.Refusal{Reason: reasonNoLeader}, ""):       true,
		server("").failure(ErrOutcomeUnknown, ""):                           false,
		server("").failure(ErrBusy, ""):                                     false,
		status.Error(codes.Unavailable, "connection reset"):                 false,
		server("").failure(refusal(pair.ReasonStaleEpoch, "somewhere"), ""): false,
		server("").failure(NodeBehind("n1 is behind", ""), ""):              false,
		server("").failure(NodeUnreachable("n5", "n5:7400"), ""):            false,
	} {
		if got := unheard(err); got != want {
			t.Errorf("unheard(%v) = %v", err, got)
		}
	}
}

func TestForLeader(t *testing.T) {
	for method, want := range map[string]struct{ leader, reads bool }{
		"/witness.v1.AdminService/GetPair":        {true, true},
		"/witness.v1.AdminService/Switchover":     {true, false},
		"/witness.v1.AdminService/SetPolicy":      {true, false},
		"/witness.v1.AdminService/WatchPairs":     {true, true},
		"/witness.v1.AdminService/WatchEvents":    {false, true},
		"/witness.v1.WitnessService/GetStatus":    {true, true},
		"/witness.v1.WitnessService/Snapshot":     {true, true},
		"/witness.v1.WitnessService/AddNode":      {true, false},
		"/witness.v1.AgentService/Session":        {false, false},
		"/witness.v1.RelayService/Relay":          {false, false},
		"/grpc.health.v1.Health/Check":            {false, false},
		"/witness.v1.AdminServiceOfAnother/Pause": {false, false},
	} {
		if got := forLeader(method, nil); got != want.leader {
			t.Errorf("forLeader(%s) = %v", method, got)
		}
		if got := reads(method); got != want.reads {
			t.Errorf("reads(%s) = %v", method, got)
		}
	}
}
