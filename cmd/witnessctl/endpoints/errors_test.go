package endpoints

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func failure(t *testing.T, code codes.Code, reason, message, do string) error {
	t.Helper()
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Reason: reason, Metadata: map[string]string{"do": do},
	})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

// TestClassify: what may be asked of another node, what leaves doubt, and what is final.
func TestClassify(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want kind
	}{
		{"answered", nil, answered},
		{"no leader", failure(t, codes.Unavailable, "NO_LEADER", "", ""), unable},
		{"not the leader", failure(t, codes.Unavailable, "NOT_LEADER", "", ""), unable},
		{"busy", failure(t, codes.Unavailable, "BUSY", "", ""), unable},
		{"stopping", failure(t, codes.Unavailable, "STOPPING", "", ""), unreached},
		{"outcome unknown", failure(t, codes.Unknown, "OUTCOME_UNKNOWN", "", ""), unreached},
		{"connection lost", status.Error(codes.Unavailable, "EOF"), unreached},
		{"too late", status.Error(codes.DeadlineExceeded, ""), unreached},
		{"too late, here", context.DeadlineExceeded, unreached},
		{"refused", failure(t, codes.FailedPrecondition, "EXPOSED", "", ""), refused},
		{"refused without a reason", status.Error(codes.NotFound, ""), refused},
		{"a bug", failure(t, codes.Internal, "INTERNAL", "", ""), failed},
		{"a panic", status.Error(codes.Unknown, ""), failed},
		{"an older witness", status.Error(codes.Unimplemented, ""), failed},
		{"a full disk, here", errors.New("no space left on device"), failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := classify(tt.err); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// TestDetail: what to do is told once, although the witness's message holds it as well.
func TestDetail(t *testing.T) {
	r := refusalOf(failure(t, codes.Aborted, "STALE_EPOCH", "decided on epoch 6; read the pair again",
		"read the pair again"), "w1:7401")
	if r.Detail != "decided on epoch 6" || r.Do != "read the pair again" || r.Reason != "STALE_EPOCH" {
		t.Errorf("got %+v", r)
	}
	if got, want := r.Error(), "decided on epoch 6 (STALE_EPOCH); read the pair again"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNew(t *testing.T) {
	s, err := New(Options{Addresses: []string{"a:1", "b:1", "a:1", "[::1]:7401"}})
	if err != nil || len(s.Addresses()) != 3 {
		t.Errorf("got %v, %v", s.Addresses(), err)
	}
	for _, bad := range [][]string{nil, {"a"}, {"a:"}, {"::1:7401"}} {
		if _, err := New(Options{Addresses: bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
