package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// format is the first byte of every log entry, and the last of a snapshot's first eight.
const format = 1

// upgrade ends every message about something that a newer release must have written.
const upgrade = "upgrade this node"

// EncodeCommand is the log entry that proposes a command. A body or an enum value without a number in the
// log format is a bug and panics here, on the proposing node alone, and not on every node that replays it.
func EncodeCommand(c pair.Command) []byte {
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_Command{Command: fromCommand(c)}})
}

// EncodeRestore is the log entry that opens a new generation for every pair (rule R15); generation 0 stands
// for the next one, for whoever writes the entry before reading the backup. at is the wall clock in
// milliseconds, for the history.
func EncodeRestore(generation uint64, at int64) []byte {
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_Restore{
		Restore: &logv1.Restore{Generation: generation, AtMs: at},
	}})
}

// EncodeSetNode is the log entry that adds a node or changes its addresses.
func EncodeSetNode(n Node) []byte {
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_SetNode{SetNode: &logv1.SetNode{Node: fromNode(n)}}})
}

// EncodeRemoveNode is the log entry that takes a node out of the list.
func EncodeRemoveNode(id string) []byte {
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_RemoveNode{RemoveNode: &logv1.RemoveNode{Id: id}}})
}

// EncodeRaise is the log entry that says that every node reads what is of this level.
func EncodeRaise(level uint32) []byte {
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_Raise{Raise: &logv1.Raise{Level: level}}})
}

// EncodeDelivered is the log entry that says how far webhooks have come. It is of level 1: see [Ledger.Level].
func EncodeDelivered(cursors ...Cursor) []byte {
	m := &logv1.Delivered{}
	for _, c := range cursors {
		m.Cursors = append(m.Cursors, fromCursor(c))
	}
	return encodeEntry(&logv1.Entry{Body: &logv1.Entry_Delivered{Delivered: m}})
}

func encodeEntry(e *logv1.Entry) []byte { return marshal([]byte{format}, e) }

// decodeEntry understands an entry wholly or not at all.
func decodeEntry(data []byte) (*logv1.Entry, error) {
	if len(data) == 0 {
		return nil, errors.New("empty entry")
	}
	if data[0] != format {
		return nil, fmt.Errorf("entry of format %d, this release knows %d", data[0], format)
	}
	e := &logv1.Entry{}
	if err := unmarshal(data[1:], e); err != nil {
		return nil, err
	}
	return e, nil
}

// marshal appends a message to b. Text that is not UTF-8, say out of a database's error message, is mended:
// protobuf refuses it, and a decision must not fail for its explanation.
func marshal(b []byte, m proto.Message) []byte {
	options := proto.MarshalOptions{Deterministic: true}
	out, err := options.MarshalAppend(b, m)
	if err != nil {
		mendText(m.ProtoReflect())
		out, err = options.MarshalAppend(b, m)
	}
	if err != nil {
		panic(fmt.Sprintf("ledger: encode %T: %v", m, err))
	}
	return out
}

// unmarshal refuses a message with fields that this release does not know: dropping them would make this
// node's state differ from that of its peers.
func unmarshal(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return err
	}
	if name := unknownField(m.ProtoReflect()); name != "" {
		return fmt.Errorf("%s has a field that this release does not know", name)
	}
	return nil
}

// unknownField names a message in m, or m, that has an unknown field; empty if there is none.
func unknownField(m protoreflect.Message) (name protoreflect.FullName) {
	if len(m.GetUnknown()) > 0 {
		return m.Descriptor().FullName()
	}
	eachMessage(m, func(sub protoreflect.Message) bool {
		name = unknownField(sub)
		return name == ""
	})
	return name
}

func mendText(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() == protoreflect.StringKind {
			m.Set(f, protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD")))
		}
		return true
	})
	eachMessage(m, func(sub protoreflect.Message) bool {
		mendText(sub)
		return true
	})
}

// eachMessage visits the messages in the fields of m. The format has no maps and no lists but of messages.
func eachMessage(m protoreflect.Message, visit func(protoreflect.Message) bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
			return true
		case f.IsList():
			for i := range v.List().Len() {
				if !visit(v.List().Get(i).Message()) {
					return false
				}
			}
			return true
		default:
			return visit(v.Message())
		}
	})
}

// decoder turns messages into values and keeps the first thing that it could not understand.
type decoder struct{ err error }

func (d *decoder) fail(reason string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(reason, args...)
	}
}

func fromCommand(c pair.Command) *logv1.PairCommand {
	m := &logv1.PairCommand{
		Pair: string(c.Pair), Revision: uint64(c.Revision), Term: uint64(c.Term), AtMs: c.At,
	}
	switch b := c.Body.(type) {
	case pair.Create:
		m.Body = &logv1.PairCommand_Create{Create: &logv1.Create{
			Name: b.Name, Members: fromMembers(b.Members), Primary: string(b.Primary),
			Mode: fromMode(b.Mode), Policy: fromPolicy(b.Policy), By: b.By,
		}}
	case pair.Announce:
		m.Body = &logv1.PairCommand_Announce{Announce: &logv1.Announce{Member: fromMember(b.Member)}}
	case pair.Begin:
		m.Body = &logv1.PairCommand_Begin{Begin: &logv1.Begin{}}
	case pair.Arm:
		m.Body = &logv1.PairCommand_Arm{Arm: &logv1.Arm{Host: string(b.Host)}}
	case pair.Expose:
		m.Body = &logv1.PairCommand_Expose{Expose: &logv1.Expose{Host: string(b.Host), Cause: b.Cause}}
	case pair.Promote:
		m.Body = &logv1.PairCommand_Promote{Promote: &logv1.Promote{
			To: string(b.To), Procedure: b.Procedure, Forced: b.Forced, Cause: b.Cause,
		}}
	case pair.Reinstate:
		m.Body = &logv1.PairCommand_Reinstate{Reinstate: &logv1.Reinstate{Cause: b.Cause}}
	case pair.ReplaceMirror:
		m.Body = &logv1.PairCommand_ReplaceMirror{ReplaceMirror: &logv1.ReplaceMirror{
			Member: fromMember(b.Member), By: b.By,
		}}
	case pair.Remove:
		m.Body = &logv1.PairCommand_Remove{Remove: &logv1.Remove{Cause: b.Cause}}
	case pair.Adopt:
		m.Body = &logv1.PairCommand_Adopt{Adopt: &logv1.Adopt{
			Epoch: uint64(b.Epoch), Primary: string(b.Primary), Cause: b.Cause,
		}}
	case pair.Note:
		m.Body = &logv1.PairCommand_Note{Note: &logv1.Note{
			Kind: string(b.Kind), Cause: b.Cause, Host: string(b.Host),
		}}
	default:
		fromSettings(m, c.Body)
	}
	return m
}

// fromSettings is the second half of fromCommand: mode, policy and procedures.
func fromSettings(m *logv1.PairCommand, body pair.Body) {
	switch b := body.(type) {
	case pair.SetMode:
		m.Body = &logv1.PairCommand_SetMode{SetMode: &logv1.SetMode{
			Mode: fromMode(b.Mode), Pause: fromPause(b.Pause),
		}}
	case pair.SetPolicy:
		m.Body = &logv1.PairCommand_SetPolicy{SetPolicy: &logv1.SetPolicy{Policy: fromPolicy(b.Policy), By: b.By}}
	case pair.LowerLongest:
		m.Body = &logv1.PairCommand_LowerLongest{LowerLongest: &logv1.LowerLongest{ToNs: int64(b.To)}}
	case pair.StartProcedure:
		m.Body = &logv1.PairCommand_StartProcedure{StartProcedure: &logv1.StartProcedure{
			Procedure: fromProcedure(b.Procedure),
		}}
	case pair.StepProcedure:
		m.Body = &logv1.PairCommand_StepProcedure{StepProcedure: &logv1.StepProcedure{
			Id: b.ID, Step: fromStep(b.Step), TimeoutNs: int64(b.Timeout), Cause: b.Cause,
		}}
	case pair.EndProcedure:
		m.Body = &logv1.PairCommand_EndProcedure{EndProcedure: &logv1.EndProcedure{
			Id: b.ID, Done: b.Done, Reason: string(b.Reason), Detail: b.Detail,
		}}
	case pair.Restore:
		panic("ledger: a restore is of the whole witness: use EncodeRestore")
	default:
		panic(fmt.Sprintf("ledger: command %T has no number in the log format", body))
	}
}

func (d *decoder) command(m *logv1.PairCommand) pair.Command {
	return pair.Command{
		Pair: pair.ID(m.GetPair()), Revision: pair.Revision(m.GetRevision()),
		Term: pair.Term(m.GetTerm()), At: m.GetAtMs(), Body: d.body(m),
	}
}

func (d *decoder) body(m *logv1.PairCommand) pair.Body {
	switch b := m.GetBody().(type) {
	case *logv1.PairCommand_Create:
		return pair.Create{
			Name: b.Create.GetName(), Members: d.members(b.Create.GetMembers()),
			Primary: pair.HostID(b.Create.GetPrimary()), Mode: d.mode(b.Create.GetMode()),
			Policy: toPolicy(b.Create.GetPolicy()), By: b.Create.GetBy(),
		}
	case *logv1.PairCommand_Announce:
		return pair.Announce{Member: toMember(b.Announce.GetMember())}
	case *logv1.PairCommand_Begin:
		return pair.Begin{}
	case *logv1.PairCommand_Arm:
		return pair.Arm{Host: pair.HostID(b.Arm.GetHost())}
	case *logv1.PairCommand_Expose:
		return pair.Expose{Host: pair.HostID(b.Expose.GetHost()), Cause: b.Expose.GetCause()}
	case *logv1.PairCommand_Promote:
		return pair.Promote{
			To: pair.HostID(b.Promote.GetTo()), Procedure: b.Promote.GetProcedure(),
			Forced: b.Promote.GetForced(), Cause: b.Promote.GetCause(),
		}
	case *logv1.PairCommand_Reinstate:
		return pair.Reinstate{Cause: b.Reinstate.GetCause()}
	case *logv1.PairCommand_ReplaceMirror:
		return pair.ReplaceMirror{Member: toMember(b.ReplaceMirror.GetMember()), By: b.ReplaceMirror.GetBy()}
	case *logv1.PairCommand_Remove:
		return pair.Remove{Cause: b.Remove.GetCause()}
	case *logv1.PairCommand_Adopt:
		return pair.Adopt{
			Epoch: pair.Epoch(b.Adopt.GetEpoch()), Primary: pair.HostID(b.Adopt.GetPrimary()),
			Cause: b.Adopt.GetCause(),
		}
	case *logv1.PairCommand_Note:
		return pair.Note{
			Kind: pair.FactKind(b.Note.GetKind()), Cause: b.Note.GetCause(), Host: pair.HostID(b.Note.GetHost()),
		}
	default:
		return d.settings(m)
	}
}

// settings is the second half of body: mode, policy and procedures.
func (d *decoder) settings(m *logv1.PairCommand) pair.Body {
	switch b := m.GetBody().(type) {
	case *logv1.PairCommand_SetMode:
		return pair.SetMode{Mode: d.mode(b.SetMode.GetMode()), Pause: toPause(b.SetMode.GetPause())}
	case *logv1.PairCommand_SetPolicy:
		return pair.SetPolicy{Policy: toPolicy(b.SetPolicy.GetPolicy()), By: b.SetPolicy.GetBy()}
	case *logv1.PairCommand_LowerLongest:
		return pair.LowerLongest{To: time.Duration(b.LowerLongest.GetToNs())}
	case *logv1.PairCommand_StartProcedure:
		return pair.StartProcedure{Procedure: d.procedure(b.StartProcedure.GetProcedure())}
	case *logv1.PairCommand_StepProcedure:
		return pair.StepProcedure{
			ID: b.StepProcedure.GetId(), Step: d.step(b.StepProcedure.GetStep()),
			Timeout: time.Duration(b.StepProcedure.GetTimeoutNs()), Cause: b.StepProcedure.GetCause(),
		}
	case *logv1.PairCommand_EndProcedure:
		return pair.EndProcedure{
			ID: b.EndProcedure.GetId(), Done: b.EndProcedure.GetDone(),
			Reason: pair.Reason(b.EndProcedure.GetReason()), Detail: b.EndProcedure.GetDetail(),
		}
	default:
		d.fail("command for pair %s without a body that this release knows", m.GetPair())
		return nil
	}
}

func fromRecord(r pair.Record) *logv1.Pair {
	m := &logv1.Pair{
		Id: string(r.ID), Name: r.Name, Stage: fromEnum[logv1.Stage](r.Stage, logv1.Stage_name),
		Revision: uint64(r.Revision), Epoch: uint64(r.Epoch),
		Primary: string(r.Primary), Mirror: string(r.Mirror), Members: fromMembers(r.Members),
		Right: fromEnum[logv1.Right](r.Right, logv1.Right_name), Mode: fromMode(r.Mode),
		Pause: fromPause(r.Pause), Policy: fromPolicy(r.Policy), LongestLeaseNs: int64(r.LongestLease),
		ChangedMs: r.Changed, EpochChangedMs: r.EpochChanged,
	}
	if p := r.Procedure; p != nil {
		m.Procedure = fromProcedure(*p)
	}
	if o := r.Last; o != nil {
		m.Last = &logv1.Outcome{
			Procedure: fromProcedure(o.Procedure), Done: o.Done, Reason: string(o.Reason),
			Detail: o.Detail, EndedMs: o.Ended,
		}
	}
	return m
}

func (d *decoder) record(m *logv1.Pair) pair.Record {
	r := pair.Record{
		ID: pair.ID(m.GetId()), Name: m.GetName(),
		Stage:    toEnum[pair.Stage](d, m.GetStage(), logv1.Stage_name),
		Revision: pair.Revision(m.GetRevision()), Epoch: pair.Epoch(m.GetEpoch()),
		Primary: pair.HostID(m.GetPrimary()), Mirror: pair.HostID(m.GetMirror()),
		Members: d.members(m.GetMembers()), Right: toEnum[pair.Right](d, m.GetRight(), logv1.Right_name),
		Mode: d.mode(m.GetMode()), Pause: toPause(m.GetPause()), Policy: toPolicy(m.GetPolicy()),
		LongestLease: time.Duration(m.GetLongestLeaseNs()),
		Changed:      m.GetChangedMs(), EpochChanged: m.GetEpochChangedMs(),
	}
	if m.GetProcedure() != nil {
		p := d.procedure(m.GetProcedure())
		r.Procedure = &p
	}
	if o := m.GetLast(); o != nil {
		r.Last = &pair.Outcome{
			Procedure: d.procedure(o.GetProcedure()), Done: o.GetDone(), Reason: pair.Reason(o.GetReason()),
			Detail: o.GetDetail(), Ended: o.GetEndedMs(),
		}
	}
	return r
}

func fromEvent(e *Event) *logv1.Event {
	return &logv1.Event{
		Sequence: e.Sequence, AtMs: e.At,
		Kind: string(e.Fact.Kind), Pair: string(e.Fact.Pair), PairName: e.Fact.PairName,
		Revision: uint64(e.Fact.Revision), Epoch: uint64(e.Fact.Epoch), Host: string(e.Fact.Host),
		Procedure: e.Fact.Procedure, Cause: e.Fact.Cause, By: e.Fact.By,
	}
}

func toEvent(m *logv1.Event) *Event {
	return &Event{Sequence: m.GetSequence(), At: m.GetAtMs(), Fact: pair.Fact{
		Kind: pair.FactKind(m.GetKind()), Pair: pair.ID(m.GetPair()), PairName: m.GetPairName(),
		Revision: pair.Revision(m.GetRevision()), Epoch: pair.Epoch(m.GetEpoch()),
		Host: pair.HostID(m.GetHost()), Procedure: m.GetProcedure(), Cause: m.GetCause(), By: m.GetBy(),
	}}
}

func fromNode(n Node) *logv1.Node {
	return &logv1.Node{Id: n.ID, RaftAddress: n.RaftAddress, ApiAddress: n.APIAddress}
}

func toNode(m *logv1.Node) Node {
	return Node{ID: m.GetId(), RaftAddress: m.GetRaftAddress(), APIAddress: m.GetApiAddress()}
}

func fromCursor(c Cursor) *logv1.Cursor {
	return &logv1.Cursor{Webhook: c.Webhook, Sequence: c.Sequence}
}

func toCursor(m *logv1.Cursor) Cursor {
	return Cursor{Webhook: m.GetWebhook(), Sequence: m.GetSequence()}
}

func fromProcedure(p pair.Procedure) *logv1.Procedure {
	return &logv1.Procedure{
		Id: p.ID, Kind: fromEnum[logv1.ProcedureKind](p.Kind, logv1.ProcedureKind_name), Step: fromStep(p.Step),
		Epoch: uint64(p.Epoch), Target: string(p.Target), TimeoutNs: int64(p.Timeout),
		AcceptLoss: p.AcceptLoss, HostOff: string(p.HostOff), By: p.By, Reason: p.Reason, StartedMs: p.Started,
	}
}

func (d *decoder) procedure(m *logv1.Procedure) pair.Procedure {
	return pair.Procedure{
		ID: m.GetId(), Kind: toEnum[pair.ProcedureKind](d, m.GetKind(), logv1.ProcedureKind_name),
		Step: d.step(m.GetStep()), Epoch: pair.Epoch(m.GetEpoch()), Target: pair.HostID(m.GetTarget()),
		Timeout: time.Duration(m.GetTimeoutNs()), AcceptLoss: m.GetAcceptLoss(),
		HostOff: pair.HostID(m.GetHostOff()), By: m.GetBy(), Reason: m.GetReason(), Started: m.GetStartedMs(),
	}
}

func fromMembers(members [2]pair.Member) []*logv1.Member {
	return []*logv1.Member{fromMember(members[0]), fromMember(members[1])}
}

func (d *decoder) members(m []*logv1.Member) [2]pair.Member {
	if len(m) != 2 {
		d.fail("a pair of %d hosts", len(m))
		return [2]pair.Member{}
	}
	return [2]pair.Member{toMember(m[0]), toMember(m[1])}
}

func fromMember(m pair.Member) *logv1.Member {
	return &logv1.Member{
		Host: string(m.Host), Instance: m.Instance, LinkAddress: m.LinkAddress,
		ServiceAddress: m.ServiceAddress, Engine: m.Engine, SystemId: m.SystemID,
	}
}

func toMember(m *logv1.Member) pair.Member {
	return pair.Member{
		Host: pair.HostID(m.GetHost()), Instance: m.GetInstance(), LinkAddress: m.GetLinkAddress(),
		ServiceAddress: m.GetServiceAddress(), Engine: m.GetEngine(), SystemID: m.GetSystemId(),
	}
}

func fromPolicy(p pair.Policy) *logv1.Policy {
	return &logv1.Policy{
		Profile: p.Profile, HeartbeatNs: int64(p.Heartbeat), LeaseNs: int64(p.Lease), GuardNs: int64(p.Guard),
		MirrorTimeoutNs: int64(p.MirrorTimeout), ReleaseTimeoutNs: int64(p.ReleaseTimeout),
		PromoteTimeoutNs: int64(p.PromoteTimeout),
	}
}

func toPolicy(m *logv1.Policy) pair.Policy {
	return pair.Policy{
		Profile: m.GetProfile(), Heartbeat: time.Duration(m.GetHeartbeatNs()),
		Lease: time.Duration(m.GetLeaseNs()), Guard: time.Duration(m.GetGuardNs()),
		MirrorTimeout:  time.Duration(m.GetMirrorTimeoutNs()),
		ReleaseTimeout: time.Duration(m.GetReleaseTimeoutNs()),
		PromoteTimeout: time.Duration(m.GetPromoteTimeoutNs()),
	}
}

func fromPause(p pair.Pause) *logv1.Pause { return &logv1.Pause{By: p.By, Reason: p.Reason} }

func toPause(m *logv1.Pause) pair.Pause { return pair.Pause{By: m.GetBy(), Reason: m.GetReason()} }

func fromMode(m pair.Mode) logv1.Mode { return fromEnum[logv1.Mode](m, logv1.Mode_name) }

func (d *decoder) mode(m logv1.Mode) pair.Mode { return toEnum[pair.Mode](d, m, logv1.Mode_name) }

func fromStep(s pair.ProcedureStep) logv1.ProcedureStep {
	return fromEnum[logv1.ProcedureStep](s, logv1.ProcedureStep_name)
}

func (d *decoder) step(m logv1.ProcedureStep) pair.ProcedureStep {
	return toEnum[pair.ProcedureStep](d, m, logv1.ProcedureStep_name)
}

// fromEnum relies on both sides having the same numbers, which a test compares name by name. Zero passes in
// both directions: whether a value may be missing is for the rules to say, and all nodes say the same.
func fromEnum[P ~int32, D ~int](v D, numbers map[int32]string) P {
	if _, ok := numbers[int32(v)]; !ok {
		panic(fmt.Sprintf("ledger: %T %d has no number in the log format", v, int(v)))
	}
	return P(v)
}

func toEnum[D ~int, P ~int32](d *decoder, v P, numbers map[int32]string) D {
	if _, ok := numbers[int32(v)]; !ok {
		d.fail("%T %d is not known to this release", v, v)
	}
	return D(v)
}
