package rpc

import (
	"context"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Bounds of what any input may lead to.
const (
	// answerTime is far above what an answer takes, and below what a caller would wait.
	answerTime = 5 * time.Second
	// maxRefusal bounds a status with its details: encoded twice over it must fit into the 8 KiB of headers that
	// many gRPC libraries take.
	maxRefusal = 3 << 10
)

// long is a word that is longer than any limit.
var long = strings.Repeat("ü", 32<<10)

// calls are the methods that FuzzCall makes, each with what is really asked, and with what is wrong about it.
func calls() map[string][]proto.Message {
	all := changes()
	maps.Copy(all, questions())
	maps.Copy(all, ofWitness())
	return all
}

// odd is a policy that no operator should have given.
func odd() *witnessv1.Policy {
	return &witnessv1.Policy{Profile: "fast", Lease: &durationpb.Duration{Seconds: -1 << 40}, Guard: durationpb.New(time.Hour)}
}

// changes are the calls that change a pair.
func changes() map[string][]proto.Message {
	members := []*witnessv1.Member{{Host: "c", Instance: "db"}, {Host: "d", Instance: "db"}}
	return map[string][]proto.Message{
		"AdminService.CreatePair": {
			&witnessv1.CreatePairRequest{Name: "crm", Members: members, Primary: "c", By: "ann"},
			&witnessv1.CreatePairRequest{Name: long, Members: members[:1], Mode: 9, Policy: odd(), By: long},
			&witnessv1.CreatePairRequest{Name: long, Members: members, Primary: long},
			&witnessv1.CreatePairRequest{Name: "crm", Members: members, Primary: "c", Policy: &witnessv1.Policy{Profile: long}},
		},
		"AdminService.Switchover": {
			&witnessv1.SwitchoverRequest{Pair: "sales", Target: "b", ExpectedRevision: 3, ExpectedEpoch: 1, By: "ann"},
			&witnessv1.SwitchoverRequest{Pair: "sales", Target: long},
		},
		"AdminService.ForceFailover": {
			&witnessv1.ForceFailoverRequest{Pair: "sales", ExpectedEpoch: 1, AcceptLoss: true, HostOff: "a"},
			&witnessv1.ForceFailoverRequest{Pair: "sales", ExpectedEpoch: 1, HostOff: long},
		},
		"AdminService.Pause": {
			&witnessv1.PauseRequest{Pair: "sales", Mode: 2, By: "ann", Reason: "patching"},
			&witnessv1.PauseRequest{Pair: "sales", Mode: -1}, &witnessv1.PauseRequest{Pair: "forming", Reason: long},
		},
		"AdminService.Resume": {&witnessv1.ResumeRequest{Pair: "sales"}, &witnessv1.ResumeRequest{Pair: long}},
		"AdminService.SetPolicy": {
			&witnessv1.SetPolicyRequest{Pair: "sales", Policy: &witnessv1.Policy{Profile: "patient"}, By: "ann"},
			&witnessv1.SetPolicyRequest{Pair: "sales", Policy: odd()}, &witnessv1.SetPolicyRequest{Pair: "gone"},
		},
		"AdminService.ReplaceMirror": {
			&witnessv1.ReplaceMirrorRequest{Pair: "sales", Member: members[0]},
			&witnessv1.ReplaceMirrorRequest{Pair: "sales", Member: &witnessv1.Member{Host: long, Instance: long}},
		},
		"AdminService.RemovePair": {
			&witnessv1.RemovePairRequest{Pair: "forming", By: "ann"}, &witnessv1.RemovePairRequest{Pair: "sales", HostOff: "a"},
			&witnessv1.RemovePairRequest{Pair: "sales", HostOff: long},
		},
		"AdminService.AdoptPair": {
			&witnessv1.AdoptPairRequest{Pair: "sales", Host: "a"}, &witnessv1.AdoptPairRequest{Pair: "sales", Host: long},
		},
	}
}

// questions are the calls that ask about pairs.
func questions() map[string][]proto.Message {
	return map[string][]proto.Message{
		"AdminService.GetPair": {
			&witnessv1.GetPairRequest{Pair: "sales"}, &witnessv1.GetPairRequest{Pair: "id-gone"},
			&witnessv1.GetPairRequest{Pair: "sales", Stale: true}, &witnessv1.GetPairRequest{Pair: long, Stale: true},
		},
		"AdminService.ListPairs":   {&witnessv1.ListPairsRequest{}, &witnessv1.ListPairsRequest{Stale: true}},
		"AdminService.WatchPairs":  {&witnessv1.WatchPairsRequest{Pair: "sales"}, &witnessv1.WatchPairsRequest{Pair: long}},
		"AdminService.ExplainPair": {&witnessv1.ExplainPairRequest{Pair: "busy"}, &witnessv1.ExplainPairRequest{Pair: long}},
		"AdminService.GetProcedure": {
			&witnessv1.GetProcedureRequest{Procedure: "p1"}, &witnessv1.GetProcedureRequest{Procedure: long},
		},
		"AdminService.WatchProcedure": {
			&witnessv1.WatchProcedureRequest{Procedure: "p1"}, &witnessv1.WatchProcedureRequest{Procedure: long},
		},
		"AdminService.ListEvents": {
			&witnessv1.ListEventsRequest{Pair: "gone", After: proto.Uint64(1), Limit: 1<<32 - 1},
			&witnessv1.ListEventsRequest{Pair: long, Stale: true},
		},
		"AdminService.WatchEvents": {
			&witnessv1.WatchEventsRequest{After: proto.Uint64(1<<64 - 1)}, &witnessv1.WatchEventsRequest{Pair: long},
		},
	}
}

// ofWitness are the calls that are about the witness itself.
func ofWitness() map[string][]proto.Message {
	return map[string][]proto.Message{
		"WitnessService.GetStatus": {&witnessv1.GetStatusRequest{Local: true}, &witnessv1.GetStatusRequest{}},
		"WitnessService.AddNode": {
			&witnessv1.AddNodeRequest{Id: "n4", RaftAddress: "n4:7400", ApiAddress: "n4:7401"},
			&witnessv1.AddNodeRequest{Id: "n5", RaftAddress: "n5:7400", ApiAddress: "n5:7401"},
			&witnessv1.AddNodeRequest{Id: "n5", RaftAddress: long, ApiAddress: ":"}, &witnessv1.AddNodeRequest{Id: long},
		},
		"WitnessService.RemoveNode": {&witnessv1.RemoveNodeRequest{Id: "n1"}, &witnessv1.RemoveNodeRequest{Id: long}},
		"WitnessService.TransferLeadership": {
			&witnessv1.TransferLeadershipRequest{To: "n2"}, &witnessv1.TransferLeadershipRequest{To: long},
		},
		"WitnessService.Snapshot": {&witnessv1.SnapshotRequest{}},
	}
}

// elsewhere are the methods that have a target of their own.
var elsewhere = map[string]string{
	"AgentService.Session": "FuzzSession",
	"RelayService.Relay":   "FuzzRelay",
	"PartnerService.Link":  "FuzzLink in agent/link",
}

// TestEveryMethodIsFuzzed fails when a method is added to the schema and to no target.
func TestEveryMethodIsFuzzed(t *testing.T) {
	seeds := calls()
	protoregistry.GlobalFiles.RangeFilesByPackage("witness.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				name := string(s.Name()) + "." + string(s.Methods().Get(j).Name())
				if len(seeds[name]) == 0 && elsewhere[name] == "" {
					t.Errorf("%s has neither seeds for FuzzCall nor a target of its own", name)
				}
				delete(seeds, name)
			}
		}
		return true
	})
	for name := range seeds {
		t.Errorf("%s is not in the schema", name)
	}
}

// methods are the names of calls in a stable order, so that a number in an input means the same in every run.
func methods() []string {
	var names []string
	for name := range calls() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// FuzzCall makes a call with any message of its request's type. Whatever is in it, the answer comes soon, a
// refusal is one of the witness's own and changes nothing, and a question changes nothing either.
func FuzzCall(f *testing.F) {
	all, seeds := methods(), calls()
	for i, name := range all {
		for _, m := range seeds[name] {
			body, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), body)
		}
	}
	b := newBench(f)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		method := "/witness.v1." + strings.Replace(all[int(which)%len(all)], ".", "/", 1)
		request, err := messageOf(method, protoreflect.MethodDescriptor.Input)
		if err != nil {
			t.Fatal(err)
		}
		if proto.Unmarshal(body, request) != nil {
			return
		}
		b.reset(t)
		before := b.court.ledger.Pairs()
		began := time.Now()
		err = b.call(method, request)
		if took := time.Since(began); took > answerTime {
			t.Fatalf("%s took %v: %v", method, took, err)
		}
		checkRefusal(t, err)
		if changed := !reflect.DeepEqual(before, b.court.ledger.Pairs()); changed && (err != nil || reads(method)) {
			t.Fatalf("%s changed something and answered %v", method, err)
		}
	})
}

// call makes one call; of a stream it takes the first message, and of a snapshot all.
func (b *bench) call(method string, request proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*answerTime)
	defer cancel()
	response, err := messageOf(method, protoreflect.MethodDescriptor.Output)
	if err != nil {
		return err
	}
	if !strings.Contains(method, "Watch") && !strings.HasSuffix(method, "/Snapshot") {
		return b.conn.Invoke(ctx, method, request, response)
	}
	stream, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	err = stream.RecvMsg(response)
	for err == nil && strings.HasSuffix(method, "/Snapshot") {
		err = stream.RecvMsg(response)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// checkRefusal: a no is in the witness's own words, with a reason for programs, and small enough for everybody.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted,
		codes.ResourceExhausted:
	default:
		t.Fatalf("refused with %v: %.300s", st.Code(), err.Error())
	}
	if reasonOf(err) == "" || st.Message() == "" {
		t.Fatalf("refused without a reason: %.300s", err.Error())
	}
	if size := proto.Size(st.Proto()); size > maxRefusal {
		t.Fatalf("a refusal of %d bytes, at most %d: %.300s", size, maxRefusal, err.Error())
	}
}
