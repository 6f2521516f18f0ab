package main

import (
	"encoding/binary"
	"hash/maphash"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Two states are the same if nothing can tell them apart from now on. So instants count from now, and those long
// ago are all alike; epochs, revisions and terms count from the record's; names of runs and starts from the present
// ones; and what only people read does not count at all. Without this a pair that merely goes on would never be
// seen in the same state twice.
//
// The fields are found by reflection, once for each type: a field that is added to the shipped types counts from
// then on without anybody thinking of it.

// longAgo is farther back than any rule looks. For some instants less is enough, see horizons; an agent that stands
// still looks at none, so of its own all are kept.
const longAgo = 10 * step

// horizon says how far back an instant still counts.
type horizon uint8

const (
	far      horizon = iota // longAgo
	gone                    // not at all: it is only asked whether it has passed
	oneLease                // one longest lease
	message                 // as long as a message may be under way
	never                   // not at all once the pair has begun
)

// horizons are by type and field; a field that is not named here counts for as long as any.
var horizons = map[string]horizon{
	"Watch.LeaseUntil": gone, "Watch.Since": never, "Watch.ReleasedAt": oneLease, "Watch.agreedSince": oneLease,
	"Seen.At":            oneLease,
	"State.witnessLease": gone, "State.partnerLease": gone, "State.promise": gone, "State.retryAt": gone,
	"holding.notUntil": gone, "Mark.Until": gone, "Renew.Until": gone,
	"State.partnerSeen": oneLease, "State.askAt": oneLease, "State.mirrorOK": oneLease, "State.Started": oneLease,
	"State.followSeen": message, "State.termSent": message, "State.gate": message, "holding.since": message,
}

type measure uint8

const (
	plain measure = iota
	instant
	revision
	epoch
	term
	position
	few // a counter of which only the first steps count
	text
	unnumbered  // a text without its numbers, which count how often something failed
	runNumber   // of a database's process, as a string
	startNumber // of an agent
	procedure
	pointer
	omitted
)

type field struct {
	offset  uintptr
	size    uintptr
	measure measure
	horizon horizon
	deep    []field // of a pointer
}

// forPeople are fields that decide nothing, and counters that are looked at otherwise, by type and field.
var forPeople = map[string]bool{
	"Record.Name": true, "Record.Pause": true, "Record.Last": true, "Record.Changed": true, "Record.EpochChanged": true,
	"Policy.Profile": true, "Procedure.By": true, "Procedure.Reason": true, "Procedure.Started": true,
	"Report.RequestCause": true, "Report.Sequence": true, "Report.FenceLevel": true,
	"State.requestWhy": true, "State.opID": true, "File.Name": true, "WitnessSays.Name": true,
	"Engine.Databases": true, "Engine.ServeIn": true,
	"State.opBegan": true, "State.tries": true, // how long a failed operation waits; only whether it does counts
}

// plans are the fields of each type that a state is made of, in the order of memory.
var plans = makePlans()

func makePlans() map[reflect.Type][]field {
	all := map[reflect.Type][]field{}
	for _, v := range []any{pair.Record{}, pair.Watch{}, pair.Report{}, hold.State{}, hold.File{}, hold.Mark{},
		hold.Says{}, hold.WitnessSays{}} {
		all[reflect.TypeOf(v)] = appendPlan(nil, reflect.TypeOf(v), 0, "", "")
	}
	return all
}

func appendPlan(p []field, t reflect.Type, at uintptr, of, name string) []field {
	if forPeople[of+"."+name] {
		return p
	}
	m := measureOf(t, name)
	switch {
	case m == pointer:
		return append(p, field{offset: at, size: t.Size(), measure: pointer, deep: appendPlan(nil, t.Elem(), 0, "", "")})
	case m != plain:
		return append(p, field{offset: at, size: t.Size(), measure: m, horizon: horizons[of+"."+name]})
	}
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			p = appendPlan(p, f.Type, at+f.Offset, t.Name(), f.Name)
		}
		return p
	case reflect.Array:
		for k := range t.Len() {
			p = appendPlan(p, t.Elem(), at+uintptr(k)*t.Elem().Size(), "", "")
		}
		return p
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint8:
		return append(p, field{offset: at, size: t.Size(), measure: plain})
	case reflect.String:
		return append(p, field{offset: at, measure: text})
	default:
		panic("model: no measure for field " + name + " of type " + t.String())
	}
}

func measureOf(t reflect.Type, name string) measure {
	switch t {
	case reflect.TypeFor[hold.Instant](), reflect.TypeFor[pair.Instant]():
		return instant
	case reflect.TypeFor[hold.Revision](), reflect.TypeFor[pair.Revision]():
		return revision
	case reflect.TypeFor[hold.Epoch](), reflect.TypeFor[pair.Epoch]():
		return epoch
	case reflect.TypeFor[pair.Term]():
		return term
	}
	switch name {
	case "TermHeard", "Term", "term":
		return term
	case "Position", "MirrorFlushed", "baseline":
		return position
	case "keepsUp", "failures":
		return few
	case "complaint", "Complaint":
		return unnumbered
	case "Run", "run", "prepared":
		return runNumber
	case "Start":
		return startNumber
	}
	switch {
	case name == "ID" && t.Kind() == reflect.String:
		return procedure
	case t.Kind() == reflect.Pointer:
		return pointer
	default:
		return plain
	}
}

// encoder writes a state down for its fingerprint.
type encoder struct {
	buf     []byte
	s       *state
	run     int
	start   int
	numbers numbering
	keepAll bool // of the instants
}

var seed = maphash.MakeSeed()

func (e *encoder) fingerprint(s *state) uint64 {
	e.buf, e.s = e.buf[:0], s
	e.run, e.start = 0, 0
	e.put(s.record)
	e.int(int64(s.cuts))
	e.int(int64(s.faults))
	e.int(int64(s.off))
	e.bool(s.stall)
	e.leading(s.leader)
	e.leading(s.stale)
	ids := e.ids()
	for _, h := range s.hosts {
		e.host(h, ids)
	}
	e.set(s.acked, ids)
	e.set(s.forgiven, ids)
	e.int(int64(len(s.queue)))
	e.bool(s.moves == 0)
	for _, i := range s.queue {
		e.item(i)
	}
	for _, i := range s.late {
		e.item(i)
	}
	return maphash.Bytes(seed, e.buf)
}

func (e *encoder) int(v int64) { e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(v)) }

func (e *encoder) bool(v bool) {
	if v {
		e.buf = append(e.buf, 1)
	} else {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) leading(l *leading) {
	e.bool(l != nil)
	if l == nil {
		return
	}
	e.measure(term, uint64(l.term))
	e.put(&l.watch)
	if l == e.s.stale {
		e.put(l.record)
	}
}

func (e *encoder) host(h *host, ids *numbering) {
	e.run, e.start = h.db.run, h.start
	d := &h.db
	for _, v := range []bool{h.alive, h.frozen, h.managed, h.known, h.endless, d.data, d.running, d.primary, d.following,
		d.held, d.opened, d.draining} {
		e.bool(v)
	}
	e.instant(uint64(h.fence), oneLease)
	e.int(int64(d.settled))
	e.int(int64(len(d.log)))
	for _, id := range d.log {
		e.int(int64(ids[id]))
	}
	e.int(int64(h.op.Op))
	e.put(&h.file)
	e.keepAll = h.frozen
	e.put(&h.mark)
	if h.alive && h.managed {
		e.put(&h.state)
	}
	e.keepAll = false
	for _, i := range h.waiting {
		if i != nil {
			e.item(i)
		}
	}
}

// numbering gives each write that a log holds the place where it is found first: the id itself does not matter.
type numbering [32]int8

func (e *encoder) ids() *numbering {
	e.numbers = numbering{}
	next := int8(1)
	for _, h := range e.s.hosts {
		for _, id := range h.db.log {
			if e.numbers[id] == 0 {
				e.numbers[id] = next
				next++
			}
		}
	}
	return &e.numbers
}

func (e *encoder) set(set uint32, ids *numbering) {
	var out int64
	for id := range uint8(32) {
		switch {
		case set&(1<<id) == 0:
		case ids[id] != 0:
			out |= 1 << ids[id]
		default:
			out += 1 << 32 // in nobody's log
		}
	}
	e.int(out)
}

func (e *encoder) item(i *item) {
	h := e.s.hosts[i.host]
	e.run, e.start = h.db.run, h.start
	e.buf = append(e.buf, byte(i.kind), byte(i.host))
	e.instant(uint64(i.born), message)
	e.bool(i.twice)
	e.bool(i.asks)
	if i.kind != commit {
		e.int(int64(h.start - i.start))
	}
	e.instant(uint64(i.sent), message)
	e.instant(uint64(i.receipt), message)
	if i.term != 0 {
		e.measure(term, uint64(i.term))
	}
	switch i.kind {
	case report:
		e.put(i.report)
		e.rank(i)
	case confirm:
	case answer:
		e.put(i.answer)
	case reply:
		e.run = e.s.hosts[i.host.other()].db.run
		e.put(i.says)
	case asking:
		e.put(i.says)
	case commit:
		e.command(i.propose.Command)
	case done:
		e.int(int64(i.do.Op))
		e.bool(i.do.ID == h.op.ID)
		if e.bool(i.end != nil); i.end != nil {
			e.bool(i.end.Everything)
			e.bool(i.end.Err != "")
		}
	case exit:
	}
}

// rank is the order of a heartbeat among those of its host that are under way or were heard last.
func (e *encoder) rank(i *item) {
	older := 0
	for _, list := range [][]*item{e.s.queue, e.s.late} {
		for _, o := range list {
			if o.kind == report && o.host == i.host && o.report.Sequence < i.report.Sequence {
				older++
			}
		}
	}
	e.int(int64(older))
	heard := false
	if l := e.s.leader; l != nil {
		r, _, ok := l.watch.SeenOf(*e.s.record, name(i.host), 0)
		heard = ok && r.Start == i.report.Start && r.Sequence >= i.report.Sequence
	}
	e.bool(heard)
}

// command is told by its kind and what it was decided on; the rest follows from the state it was decided in.
func (e *encoder) command(c pair.Command) {
	e.measure(revision, uint64(c.Revision))
	e.measure(term, uint64(c.Term))
	e.buf = append(e.buf, reflect.TypeOf(c.Body).Name()...)
	switch body := c.Body.(type) {
	case pair.StepProcedure:
		e.int(int64(body.Step))
	case pair.StartProcedure:
		e.int(int64(body.Procedure.Kind))
		e.int(int64(body.Procedure.Step))
		e.bool(body.Procedure.AcceptLoss)
		e.buf = append(e.buf, body.Procedure.HostOff...)
	case pair.EndProcedure:
		e.bool(body.Done)
	case pair.SetMode:
		e.int(int64(body.Mode))
	case pair.SetPolicy:
		e.int(int64(body.Policy.Lease))
	case pair.LowerLongest:
		e.int(int64(body.To))
	case pair.Promote:
		e.bool(body.Forced)
	case pair.Adopt:
		e.measure(epoch, uint64(body.Epoch))
		e.buf = append(e.buf, body.Primary...)
	case pair.Create, pair.Announce, pair.Begin, pair.Arm, pair.Expose, pair.Reinstate, pair.ReplaceMirror, pair.Remove,
		pair.Restore, pair.Note:
	}
}

func (e *encoder) put(v any) {
	r := reflect.ValueOf(v)
	e.fields(plans[r.Type().Elem()], r.UnsafePointer())
}

func (e *encoder) fields(p []field, at unsafe.Pointer) {
	for k := range p {
		f := &p[k]
		v := unsafe.Add(at, f.offset)
		switch f.measure {
		case instant:
			e.instant(*(*uint64)(v), f.horizon)
		case text:
			s := *(*string)(v)
			e.buf = append(e.buf, byte(len(s)))
			e.buf = append(e.buf, s...)
		case unnumbered:
			for _, c := range []byte(*(*string)(v)) {
				if c < '0' || c > '9' {
					e.buf = append(e.buf, c)
				}
			}
			e.buf = append(e.buf, 0)
		case runNumber:
			e.number(*(*string)(v), e.run)
		case startNumber:
			e.number(*(*string)(v), e.start)
		case procedure:
			s := *(*string)(v)
			e.bool(s == "")
			e.bool(e.s.record.Procedure != nil && e.s.record.Procedure.ID == s)
		case pointer:
			to := *(*unsafe.Pointer)(v)
			e.bool(to != nil)
			if to != nil {
				e.fields(f.deep, to)
			}
		default:
			if f.size == 1 {
				e.buf = append(e.buf, *(*byte)(v))
			} else {
				e.measure(f.measure, *(*uint64)(v))
			}
		}
	}
}

// number writes a run or a start relative to the present one of the host in question.
func (e *encoder) number(s string, present int) {
	if s == "" {
		e.buf = append(e.buf, 255)
		return
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	e.buf = append(e.buf, byte(present-n))
}

// instant writes how far from now an instant is, if it still counts.
func (e *encoder) instant(v uint64, h horizon) {
	back := longAgo
	switch {
	case e.keepAll || h == far:
	case h == gone:
		back = 1 // a nanosecond
	case h == oneLease:
		back = max(e.s.record.LongestLease, e.s.hosts[a].file.Longest, e.s.hosts[b].file.Longest) + step
	case h == message:
		back = oldest + step
	case h == never && e.s.record.Stage == pair.StageReady:
		back = 0
		v = min(v, uint64(e.s.now))
	}
	if v == 0 {
		e.int(0)
		return
	}
	e.int(int64(max(time.Duration(v)-e.s.now, -back))*2 | 1)
}

// measure writes a value relative to what it is measured by; 0 means "never" or "none" everywhere.
func (e *encoder) measure(m measure, v uint64) {
	if v == 0 || m == plain {
		e.int(int64(v))
		return
	}
	switch m {
	case instant:
		e.instant(v, far)
	case revision:
		e.int(int64(v-uint64(e.s.record.Revision))*2 | 1)
	case epoch:
		e.int(int64(v-uint64(e.s.record.Epoch))*2 | 1)
	case term:
		e.int(int64(v-uint64(e.s.term))*2 | 1)
	case few:
		e.int(min(int64(v), 3))
	case position:
		e.int(max(int64(v-e.s.written), -1)*2 | 1)
	default:
		panic("model: not a measure of numbers")
	}
}
