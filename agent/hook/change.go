package hook

// Name is what happened to an instance.
type Name string

// What can happen.
const (
	Primary Name = "primary" // clients may write here from now on
	Mirror  Name = "mirror"  // the instance follows its partner from now on
	Fenced  Name = "fenced"  // clients may write here no more
)

// Seen is how an instance is at one moment.
type Seen struct {
	Epoch     uint64
	Primary   bool // this host is the recorded primary of Epoch
	Serving   bool // clients may write here
	Following bool // as a mirror
}

// State is what was told of an instance. The zero value is an instance of which nothing is known.
type State struct {
	Role     string // primary, mirror, none: what the last event left behind
	Followed uint64 // the last epoch in which it was seen to follow
	// Found is the epoch in which a former start of the agent left service behind, until this start has seen that
	// service goes on or is over; 0: none.
	Found uint64
}

// The roles that events leave behind.
const (
	RolePrimary = "primary"
	RoleMirror  = "mirror"
	RoleNone    = "none"
)

// Change is an event, and the roles around it.
type Change struct {
	Name          Name
	Role, OldRole string
}

// Begin is the state at a start of the agent. epoch and primary are from the epoch file; serving says that a former
// start left behind a right to serve this epoch, in this boot of the host. What was so before is no change.
func Begin(epoch uint64, primary, serving bool) State {
	s := State{Role: RoleNone}
	switch {
	case primary && serving:
		s.Role, s.Found = RolePrimary, epoch
	case !primary && epoch > 0:
		s.Role, s.Followed = RoleMirror, epoch
	}
	return s
}

// Changes compares what was told with what is seen now, and returns what there is to tell, in order.
func Changes(told State, now Seen) (State, []Change) {
	s := told
	if s.Role == "" {
		s.Role = RoleNone
	}
	if s.Found > 0 {
		if !now.Serving && now.Primary && now.Epoch == s.Found {
			return s, nil // this start has not found out yet
		}
		s.Found = 0
	}
	var changes []Change
	tell := func(name Name, role string) {
		changes = append(changes, Change{Name: name, Role: role, OldRole: s.Role})
		s.Role = role
	}
	if !now.Serving && s.Role == RolePrimary {
		tell(Fenced, RoleNone)
	}
	if now.Serving && s.Role != RolePrimary {
		tell(Primary, RolePrimary)
	}
	if now.Following && !now.Primary && now.Epoch > s.Followed {
		s.Followed = now.Epoch
		tell(Mirror, RoleMirror)
	}
	return s, changes
}
