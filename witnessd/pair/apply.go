package pair

import "fmt"

// Apply carries out one command on the record: every node does, in log order, and comes to the same result.
// entry is the term of the log entry that carried the command. A refusal is normal (somebody else was
// first) and leaves the record untouched; an unknown body is a bug and panics, because a node that skipped
// a command would from then on hold another state than its peers.
func (r Record) Apply(c Command, entry Term) (Record, []Fact, error) {
	if refusal := r.compare(c, entry); refusal != nil {
		return r, nil, refusal
	}
	next := r
	fact, refusal := next.change(c)
	if refusal != nil {
		return r, nil, refusal
	}
	if _, note := c.Body.(Note); !note {
		next.Revision++
		next.Changed = max(r.Changed, c.At)
		if next.Epoch != r.Epoch {
			next.EpochChanged = next.Changed
		}
	}
	fact.Revision, fact.Epoch = next.Revision, next.Epoch
	return next, []Fact{fact}, nil
}

const readAgain = "read the pair again and decide on what it says now"

// StaleRevision refuses what was decided on a revision of a pair that is no longer its revision (rule R6).
func StaleRevision(r Record, decidedOn Revision) *Refusal {
	return refuse(ReasonStaleRevision, readAgain, "decided on revision %v of pair %s, which is now at %v",
		decidedOn, r.Name, r.Revision)
}

// compare is rule R6: the revision and the term that the command was decided on must still hold.
func (r Record) compare(c Command, entry Term) *Refusal {
	_, create := c.Body.(Create)
	_, restore := c.Body.(Restore)
	switch {
	case r.Stage == 0 && !create:
		return refuse(ReasonUnknownPair, "", "no pair has the id %s", c.Pair)
	case r.Stage == StageRemoved:
		return refuse(ReasonRemoved, "", "pair %s was removed", r.Name)
	case c.Revision != r.Revision:
		return StaleRevision(r, c.Revision)
	case c.Term != entry && !restore:
		return refuse(ReasonStaleTerm, "", "decided in term %d, logged in term %d", c.Term, entry)
	}
	return nil
}

// change dispatches on the body. It mutates next, which the caller throws away on a refusal.
func (r *Record) change(c Command) (Fact, *Refusal) {
	switch b := c.Body.(type) {
	case Create:
		return r.create(c.Pair, b)
	case Announce:
		return r.announce(b)
	case Begin:
		return r.begin()
	case Arm:
		return r.arm(b)
	case Expose:
		return r.expose(b)
	case Promote:
		return r.promote(b, c.At)
	case Reinstate:
		return r.reinstate(b)
	case SetMode:
		return r.setMode(b)
	case SetPolicy:
		return r.setPolicy(b)
	case LowerLongest:
		return r.lowerLongest(b)
	case StartProcedure:
		return r.startProcedure(b)
	case StepProcedure:
		return r.stepProcedure(b)
	case EndProcedure:
		return r.endProcedure(b, c.At)
	case ReplaceMirror:
		return r.replaceMirror(b)
	case Remove:
		return r.remove(b, c.At)
	case Restore:
		return r.restore(b)
	case Adopt:
		return r.adopt(b)
	case Note:
		host := b.Host
		if host == "" {
			host = r.Primary
		}
		return r.fact(b.Kind, host, "%s", b.Cause), nil
	default:
		panic(fmt.Sprintf("pair: command %T is not known to this version: upgrade this node", c.Body))
	}
}

func (r *Record) create(id ID, b Create) (Fact, *Refusal) {
	if r.Stage != 0 {
		return Fact{}, refuse(ReasonNameTaken, "choose another name", "pair %s exists", r.Name)
	}
	if bad := CheckSpec(b); bad != nil {
		return Fact{}, bad
	}
	r.ID, r.Name, r.Members, r.Stage = id, b.Name, b.Members, StageForming
	r.Primary, r.Mirror = b.Primary, r.Partner(b.Primary)
	r.Right, r.Mode, r.Policy, r.LongestLease = RightSole, b.Mode, b.Policy, b.Policy.Lease
	f := r.fact(FactCreated, b.Primary, "created with primary %s and mirror %s", r.Primary, r.Mirror)
	f.By = b.By
	return f, nil
}

func (r *Record) announce(b Announce) (Fact, *Refusal) {
	i := r.index(b.Member.Host)
	if i < 0 || r.Members[i].Instance != b.Member.Instance {
		return Fact{}, refuse(ReasonBadSpec, "", "host %s instance %s is not a member of pair %s",
			b.Member.Host, b.Member.Instance, r.Name)
	}
	r.Members[i] = b.Member
	return r.fact(FactAnnounced, b.Member.Host, "%s announced %s at %s", b.Member.Host,
		b.Member.Engine, b.Member.ServiceAddress), nil
}

func (r *Record) begin() (Fact, *Refusal) {
	if r.Stage != StageForming {
		return Fact{}, refuse(ReasonForming, "", "pair %s is %v, not forming", r.Name, r.Stage)
	}
	r.Stage, r.Epoch = StageReady, 1
	return r.fact(FactFormed, r.Primary, "formed: %s is primary, %s mirror", r.Primary, r.Mirror), nil
}

// arm and expose bump the revision also when the right does not change: the agent waits for a revision
// above the one it named (rule R8).
func (r *Record) arm(b Arm) (Fact, *Refusal) {
	switch {
	case r.Stage != StageReady || b.Host != r.Primary:
		return Fact{}, refuse(ReasonNotPrimary, "", "%s is not the primary of pair %s", b.Host, r.Name)
	case r.Mode != ModeAutomatic:
		return Fact{}, refuse(ReasonNotAutomatic, "resume the pair first", "pair %s is in mode %v", r.Name, r.Mode)
	case r.Procedure != nil && r.Procedure.Step != StepPromote:
		return Fact{}, r.busy()
	}
	r.Right = RightLeased
	return r.fact(FactArmed, b.Host, "%s is synchronized; armed", r.Mirror), nil
}

// expose is refused while a forced failover lets the leases of the primary run out: a sole right has no end to
// wait for.
func (r *Record) expose(b Expose) (Fact, *Refusal) {
	switch {
	case r.Stage != StageReady || b.Host != r.Primary:
		return Fact{}, refuse(ReasonNotPrimary, "", "%s is not the primary of pair %s", b.Host, r.Name)
	case withheld(*r):
		return Fact{}, r.busy()
	}
	r.Right = RightSole
	return r.fact(FactExposed, b.Host, "%s serves alone: %s", b.Host, b.Cause), nil
}

// promote keeps the right as it was: the new primary holds commits until it has exposed (rule R8).
func (r *Record) promote(b Promote, at int64) (Fact, *Refusal) {
	switch {
	case r.Stage != StageReady:
		return Fact{}, refuse(ReasonForming, "", "pair %s is %v", r.Name, r.Stage)
	case b.To != r.Mirror:
		return Fact{}, refuse(ReasonAlreadyPrimary, "", "%s is not the mirror of pair %s", b.To, r.Name)
	case r.Procedure != nil && r.Procedure.ID != b.Procedure:
		return Fact{}, r.busy()
	case r.Procedure != nil && r.Procedure.Epoch != r.Epoch:
		return Fact{}, refuse(ReasonStaleEpoch, "", "procedure %s ends epoch %d, not %d",
			b.Procedure, r.Procedure.Epoch, r.Epoch)
	case b.Forced && (r.Procedure == nil || !r.Procedure.AcceptLoss):
		return Fact{}, refuse(ReasonLossNotAccepted, "", "no operator accepted loss for pair %s", r.Name)
	}
	p := Procedure{ID: b.Procedure, Kind: KindFailover, Epoch: r.Epoch, Target: b.To, Reason: b.Cause, Started: at}
	if r.Procedure != nil {
		p = *r.Procedure
	}
	p.Step, p.Timeout = StepPromote, r.Policy.PromoteTimeout
	r.Procedure = &p
	r.Primary, r.Mirror = r.Mirror, r.Primary
	r.Epoch++
	return r.fact(FactPromoted, b.To, "%s promoted: %s", b.To, b.Cause), nil
}

func (r *Record) reinstate(b Reinstate) (Fact, *Refusal) {
	if r.Stage != StageReady {
		return Fact{}, refuse(ReasonForming, "", "pair %s is %v", r.Name, r.Stage)
	}
	r.Epoch++
	return r.fact(FactReinstated, r.Primary, "%s reinstated: %s", r.Primary, b.Cause), nil
}

func (r *Record) setMode(b SetMode) (Fact, *Refusal) {
	switch {
	case b.Mode < ModeAutomatic || b.Mode > ModeObserve:
		return Fact{}, refuse(ReasonBadSpec, "", "mode is not valid")
	case r.Procedure != nil:
		return Fact{}, r.busy()
	}
	r.Mode, r.Pause = b.Mode, b.Pause
	if b.Mode != ModeAutomatic {
		r.Right = RightSole
	}
	f := r.fact(FactModeChanged, r.Primary, "mode is now %v", b.Mode)
	if b.Pause.Reason != "" {
		f.Cause += ": " + b.Pause.Reason
	}
	f.By = b.Pause.By
	return f, nil
}

func (r *Record) setPolicy(b SetPolicy) (Fact, *Refusal) {
	if bad := b.Policy.Validate(); len(bad) > 0 {
		return Fact{}, refuse(ReasonBadSpec, "", "%s", bad[0])
	}
	r.Policy = b.Policy
	r.LongestLease = max(r.LongestLease, b.Policy.Lease)
	f := r.fact(FactPolicyChanged, r.Primary, "profile is now %s (lease %v)", b.Policy.Profile, b.Policy.Lease)
	f.By = b.By
	return f, nil
}

func (r *Record) lowerLongest(b LowerLongest) (Fact, *Refusal) {
	if b.To < r.Policy.Lease || b.To >= r.LongestLease {
		return Fact{}, refuse(ReasonBadSpec, "", "longest lease %v cannot become %v", r.LongestLease, b.To)
	}
	r.LongestLease = b.To
	return r.fact(FactLongestLowered, r.Primary, "no lease longer than %v is outstanding", b.To), nil
}

func (r *Record) startProcedure(b StartProcedure) (Fact, *Refusal) {
	p := b.Procedure
	switch {
	case r.Stage != StageReady:
		return Fact{}, refuse(ReasonForming, "", "pair %s is %v", r.Name, r.Stage)
	case r.Procedure != nil:
		return Fact{}, r.busy()
	case p.Kind < KindFailover || p.Kind > KindRemove || p.Step < StepRelease || p.Step > StepUnmanage:
		return Fact{}, refuse(ReasonBadSpec, "", "procedure is not valid")
	case p.Epoch != r.Epoch:
		return Fact{}, refuse(ReasonStaleEpoch, "read the pair again and decide on what it says now",
			"decided on epoch %d of pair %s, which is now at %d", p.Epoch, r.Name, r.Epoch)
	}
	r.Procedure = &p
	return r.fact(FactProcedureStarted, p.Target, "%v to %s started: %s", p.Kind, p.Target, orNone(p.Reason)), nil
}

func (r *Record) stepProcedure(b StepProcedure) (Fact, *Refusal) {
	if r.Procedure == nil || r.Procedure.ID != b.ID {
		return Fact{}, r.noProcedure(b.ID)
	}
	if b.Step < StepRelease || b.Step > StepUnmanage {
		return Fact{}, refuse(ReasonBadSpec, "", "step of procedure %s is not valid", b.ID)
	}
	p := *r.Procedure
	p.Step, p.Timeout = b.Step, b.Timeout
	r.Procedure = &p
	return r.fact(FactProcedureStepped, p.Target, "%v: %v (%s)", p.Kind, p.Step, b.Cause), nil
}

func (r *Record) endProcedure(b EndProcedure, at int64) (Fact, *Refusal) {
	if r.Procedure == nil || r.Procedure.ID != b.ID {
		return Fact{}, r.noProcedure(b.ID)
	}
	p := *r.Procedure
	kind, word := FactProcedureDone, "done"
	if !b.Done {
		kind, word = FactProcedureFailed, "failed"
	}
	f := r.fact(kind, p.Target, "%v to %s %s: %s", p.Kind, p.Target, word, orNone(b.Detail))
	r.Last = &Outcome{Procedure: p, Done: b.Done, Reason: b.Reason, Detail: b.Detail, Ended: at}
	r.Procedure = nil
	return f, nil
}

func (r *Record) replaceMirror(b ReplaceMirror) (Fact, *Refusal) {
	switch {
	case r.Stage != StageReady:
		return Fact{}, refuse(ReasonForming, "", "pair %s is %v", r.Name, r.Stage)
	case r.Procedure != nil:
		return Fact{}, r.busy()
	case r.Right != RightSole:
		return Fact{}, refuse(ReasonRightSole, "pause the pair first",
			"hosts of pair %s change only while its right is sole", r.Name)
	case b.Member.Host == r.Primary:
		return Fact{}, refuse(ReasonBadSpec, "name another host", "%s is the primary", b.Member.Host)
	case !validName(string(b.Member.Host)) || !validName(b.Member.Instance):
		return Fact{}, refuse(ReasonBadSpec, "name a host and its instance, by its agent's configuration",
			"host name %q and instance name %q are not both valid", b.Member.Host, b.Member.Instance)
	}
	old := r.Mirror
	r.Members[r.index(old)] = b.Member
	// The primary's agent announces itself anew once it has heard of this, see knowsMirror.
	r.Members[r.index(r.Primary)].LinkAddress = ""
	r.Mirror = b.Member.Host
	r.Epoch++
	f := r.fact(FactMirrorReplaced, b.Member.Host, "mirror %s replaced by %s", old, b.Member.Host)
	f.By = b.By
	return f, nil
}

func (r *Record) remove(b Remove, at int64) (Fact, *Refusal) {
	if r.Stage != StageForming && (r.Procedure == nil || r.Procedure.Kind != KindRemove) {
		return Fact{}, refuse(ReasonNoProcedure, "", "pair %s is removed by a procedure only", r.Name)
	}
	f := r.fact(FactRemoved, r.Primary, "removed: %s", b.Cause)
	if r.Procedure != nil {
		r.Last = &Outcome{Procedure: *r.Procedure, Done: true, Detail: b.Cause, Ended: at}
	}
	r.Stage, r.Procedure, r.Right = StageRemoved, nil, RightSole
	return f, nil
}

func (r *Record) restore(b Restore) (Fact, *Refusal) {
	if b.Generation > MaximumGeneration {
		return Fact{}, refuse(ReasonBadSpec, "", "generation %d of pair %s is above %d", b.Generation, r.Name,
			MaximumGeneration)
	}
	if b.Generation <= r.Revision.Generation() {
		return Fact{}, refuse(ReasonStaleRevision, "", "generation %d of pair %s does not follow generation %d",
			b.Generation, r.Name, r.Revision.Generation())
	}
	if r.Stage == StageReady {
		r.Stage = StageRestored
	}
	// Apply adds one, as for every command.
	r.Revision = NewRevision(b.Generation)
	r.Procedure = nil
	return r.fact(FactRestored, r.Primary, "witness restored from a snapshot, generation %d", b.Generation), nil
}

func (r *Record) adopt(b Adopt) (Fact, *Refusal) {
	if r.Stage != StageRestored && r.Stage != StageForming || r.index(b.Primary) < 0 || b.Epoch <= r.Epoch {
		return Fact{}, refuse(ReasonRestored, "", "pair %s cannot adopt epoch %d of %s", r.Name, b.Epoch, b.Primary)
	}
	r.Stage, r.Epoch, r.Right, r.Procedure = StageReady, b.Epoch, RightSole, nil
	r.Primary, r.Mirror = b.Primary, r.Partner(b.Primary)
	return r.fact(FactAdopted, b.Primary, "after the restore %s is primary: %s", b.Primary, b.Cause), nil
}

func (r *Record) busy() *Refusal {
	p := r.Procedure
	return refuse(ReasonProcedureUnderWay, "wait for it to end",
		"%v %s is under way for pair %s (step %v)", p.Kind, p.ID, r.Name, p.Step)
}

func (r *Record) noProcedure(id string) *Refusal {
	return refuse(ReasonNoProcedure, "", "procedure %s is not under way for pair %s", id, r.Name)
}

// CheckSpec refuses a pair that cannot work, in a sentence.
func CheckSpec(b Create) *Refusal {
	a, z := b.Members[0], b.Members[1]
	switch {
	case !validName(b.Name):
		return refuse(ReasonBadSpec, "use up to 63 letters, digits, '-', '_' and '.'", "pair name %q is not valid", b.Name)
	case !validName(string(a.Host)) || !validName(string(z.Host)):
		return refuse(ReasonBadSpec, "name two hosts, by the `host` of their agents' configurations",
			"host names %q and %q are not both valid", a.Host, z.Host)
	case a.Host == z.Host:
		return refuse(ReasonBadSpec, "name two different hosts", "pair %s names host %s twice", b.Name, a.Host)
	case !validName(a.Instance) || !validName(z.Instance):
		return refuse(ReasonBadSpec, "name each host's instance, by its agent's configuration",
			"instance names %q and %q are not both valid", a.Instance, z.Instance)
	case b.Primary != a.Host && b.Primary != z.Host:
		return refuse(ReasonBadSpec, "name one of the two hosts as primary", "primary %q is neither %s nor %s",
			b.Primary, a.Host, z.Host)
	case b.Mode < ModeAutomatic || b.Mode > ModeObserve:
		return refuse(ReasonBadSpec, "", "mode is not valid")
	}
	if bad := b.Policy.Validate(); len(bad) > 0 {
		return refuse(ReasonBadSpec, "choose a profile: fast, default or patient", "%s", bad[0])
	}
	return nil
}

// validName keeps names short and free of anything that a shell, a file system or a table would trip over.
func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func orNone(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}
