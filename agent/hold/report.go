package hold

import "time"

// Report is what this host tells the witness about the pair in a heartbeat.
type Report struct {
	Pair                      string
	Known                     bool
	Epoch                     Epoch
	Primary                   string
	Revision                  Revision
	Longest                   time.Duration
	Released                  Epoch
	ReleasedEverything        bool
	PartnerReleased           Epoch
	PartnerReleasedEverything bool
	AskLease                  bool
	Request                   Request
	RequestRevision           Revision
	RequestCause              string
	Promise                   time.Duration
	HearsPartner              bool
	Serving                   bool
	ServesFor                 time.Duration // negative: no end
	Unmanaged                 bool
	Complaint                 string
	Engine                    Engine
}

// Report says what is so at now. It is built when the heartbeat is sent, after every action of the last Step.
func (s State) Report(now Instant) Report {
	until, endless, _ := s.ServeUntil(now)
	r := Report{
		Pair: s.File.Pair, Known: s.Known, Epoch: s.File.Epoch, Primary: s.File.Primary,
		Revision: s.File.Revision, Longest: s.File.Longest,
		Released: s.File.Released, ReleasedEverything: s.File.ReleasedEverything,
		PartnerReleased: s.partnerOver, PartnerReleasedEverything: s.partnerAll,
		AskLease: s.wantsLease() && !s.unmanaged,
		Request:  s.request, RequestRevision: s.File.Revision, RequestCause: s.requestWhy,
		Promise: max(0, s.promise.Sub(now)), HearsPartner: s.hearsPartner(now),
		Serving: s.serving(now), ServesFor: max(0, until.Sub(now)), Unmanaged: s.unmanaged,
		Complaint: s.complaint, Engine: s.engine,
	}
	if endless {
		r.ServesFor = -1
	}
	if !s.engineOK && r.Complaint == "" {
		// What this start says of its database is not yet so, and nothing should be decided on it.
		r.Complaint = "the database has not answered yet"
	}
	return r
}

// Ask is the partner heartbeat to send now.
func (s State) Ask() Says { return s.says() }

// Status is what the host's own screens and load balancers ask.
type Status struct {
	Pair, Name string
	Managed    bool
	Epoch      Epoch
	Primary    bool // this host is the recorded primary, as far as it has heard
	Serving    bool
	// HandingOver: the epoch is being given back. Clients that write may finish, and new ones had better not come.
	HandingOver bool
	Following   bool
	Right       Right
	Trusted     bool // sole and acted on as sole
	Heard       bool // the witness has answered this start
	Refused     string
	ServesFor   time.Duration
	Complaint   string
	Op          Op
	Engine      Engine
}

// Status says what is so at now.
func (s State) Status(now Instant) Status {
	r := s.Report(now)
	return Status{
		Pair: s.File.Pair, Name: s.File.Name, Managed: s.Known && s.File.Epoch > 0, Epoch: s.File.Epoch,
		Primary: s.primary(), Serving: r.Serving, HandingOver: s.release.begun, Following: s.engine.Following,
		Right: s.right, Trusted: s.trustedSole(), Heard: s.heard, Refused: s.refused, ServesFor: r.ServesFor,
		Complaint: s.complaint, Op: s.op, Engine: s.engine,
	}
}

// OtherRight says whether this pair id still binds the instance: a right or a promise is outstanding, so that
// no other pair may begin with it (rule R16).
func (s State) OtherRight(now Instant) bool {
	return s.Known && s.File.Epoch > 0 && (s.primary() || now < s.promise)
}
