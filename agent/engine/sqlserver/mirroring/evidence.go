package mirroring

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// exchangeGrace is how long partners that exchange their roles may not hear each other: the session ends in its old
// form and begins in its new one. A principal that was a connected mirror as short a time ago has become one by an
// exchange.
const exchangeGrace = 2 * time.Second

// opening is a database that Promote let clients write to.
type opening struct {
	Database string `json:"database"`
	Sequence int32  `json:"role_sequence"`
}

// proof is what a mirror last knew of a session for certain.
type proof struct {
	Database string `json:"database"`
	State    string `json:"state"` // when the session was last anything but disconnected
	Safety   string `json:"safety"`
	Sequence int32  `json:"role_sequence"`
	Started  string `json:"instance_started"`
}

// proofsAfter is what is known for certain after a look. It keeps what a session was when it was last connected, and
// forgets nothing while the partner is away: a state that is read then says nothing about the copy.
func proofsAfter(l look, before map[string]proof) map[string]proof {
	after := map[string]proof{}
	for _, d := range l.unit {
		switch {
		case !d.mirror():
		case d.State == sqlserver.StateDisconnected:
			if p, ok := before[d.GUID]; ok {
				after[d.GUID] = p
			}
		default:
			after[d.GUID] = proof{d.Database, d.State, d.Safety, d.RoleSequence, l.started}
		}
	}
	return after
}

// sameProofs says that nothing has to be written.
func sameProofs(a, b map[string]proof) bool { return maps.Equal(a, b) }

// unproven says why the unit cannot be made primary here without the risk of loss; "" if it can. Databases that are
// principal here already need no proof: whoever made them so, it is done.
func unproven(l look, proofs map[string]proof) string {
	if len(l.unit) == 0 {
		return "no database of this instance is mirrored"
	}
	for _, d := range l.unit {
		if why := lacks(d, l.started, proofs); why != "" {
			return why
		}
	}
	return ""
}

// lacks says what speaks against one database.
func lacks(d database, started string, proofs map[string]proof) string {
	switch {
	case !d.mirrored && d.DatabaseState == "":
		return d.Database + " is not on this instance"
	case !d.mirrored:
		return d.Database + " is not mirrored"
	case d.principal():
		return ""
	case !d.mirror():
		return fmt.Sprintf("%s has no role that is known (%q)", d.Database, d.Role)
	case d.Witness != "":
		return fmt.Sprintf("%s has a witness of SQL Server's, %s, which forbids to force service: ALTER DATABASE %s "+
			"SET WITNESS OFF on the principal, or use the engine sqlserver-rescue", d.Database, d.Witness, d.Database)
	case d.State != sqlserver.StateSynchronized && d.State != sqlserver.StateDisconnected:
		return fmt.Sprintf("%s is %s", d.Database, d.State)
	}
	p, ok := proofs[d.GUID]
	switch {
	case !ok:
		return d.Database + " was never seen synchronized since it became a mirror"
	case p.Started != started:
		return fmt.Sprintf("this instance was started anew after %s was last seen synchronized, so its copy may be "+
			"older than the primary's", d.Database)
	case p.Sequence != d.RoleSequence:
		return fmt.Sprintf("the roles of %s were exchanged after it was last seen synchronized", d.Database)
	case p.State != sqlserver.StateSynchronized:
		return fmt.Sprintf("%s was %s when its partner was last connected", d.Database, p.State)
	case p.Safety != sqlserver.SafetyIsFull:
		return fmt.Sprintf("%s has SAFETY %s: commits did not wait for this copy", d.Database, p.Safety)
	}
	return ""
}

// isOpened says that Promote has opened the database in the role that it has now.
func isOpened(d database, m stored) bool {
	o, ok := m.Opened[d.GUID]
	return ok && d.principal() && o.Sequence == d.RoleSequence
}

// roleOf says what the instance is for the agent, and what it waits for. joining is true while Follow makes a former
// principal a mirror: the agent has closed the fence, and gives that its time.
func roleOf(l look, m stored, joining bool) (engine.Role, string) {
	principals := l.these(database.principal)
	switch {
	case len(l.these(database.alone)) > 0:
		return engine.RolePrimary, "" // whoever connects can write there
	case len(principals) == 0:
		return engine.RoleMirror, ""
	case !m.Managed:
		return engine.RolePrimary, "" // it has been this way since before there was an agent
	}
	for _, d := range l.unit {
		if isOpened(d, m) {
			if l.split() || len(principals) == len(l.unit) && len(l.these(waiting(m))) == 0 {
				return engine.RolePrimary, ""
			}
		}
	}
	switch {
	case joining:
		return engine.RoleMirror, fmt.Sprintf("principal of %s, becomes a mirror", count(principals))
	case len(l.these(lonely(l))) > 0:
		return engine.RolePrimary, ""
	default:
		return engine.RoleMirror, fmt.Sprintf("principal of %s, waits for the witness's word", count(principals))
	}
}

// lonely are principals without a partner, unless they are about to meet it in their new role.
func lonely(l look) func(database) bool {
	return func(d database) bool {
		return d.principal() && !d.Connected() && l.began.Sub(l.joined[d.GUID]) > exchangeGrace
	}
}

// notPromotable says why the unit should not be promoted; "" if it can. A principal that nobody opened and that has no
// partner may be an old one, without which its partner has gone on: whoever promotes it must know that the record names
// this host, and then it is not asked.
func notPromotable(l look, m stored, joining bool) string {
	if why := unproven(l, m.Proofs); why != "" {
		return why
	}
	unopened := look{unit: slices.DeleteFunc(slices.Clone(l.unit), func(d database) bool { return !waiting(m)(d) })}
	switch {
	case !m.Managed || len(unopened.unit) == 0:
		return ""
	case joining:
		return "it is being made a mirror"
	}
	if old := unopened.these(lonely(l)); len(old) > 0 {
		return names(old) + " came up as principal and has no partner, which may have gone on without it"
	}
	return ""
}

// waiting are principals that the witness has not spoken about.
func waiting(m stored) func(database) bool {
	return func(d database) bool { return d.principal() && !isOpened(d, m) }
}

func count(list []string) string {
	if len(list) == 1 {
		return "1 database"
	}
	return fmt.Sprintf("%d databases", len(list))
}
