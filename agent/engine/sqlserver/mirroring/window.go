package mirroring

import (
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// proofAge is how old the last look may be when a primary's process ends, for it to say that nothing was lost: two
// intervals of the agent's looks, and what one look takes.
const proofAge = 500 * time.Millisecond

// ending is what is known about the end of a primary's process: whether clients may have been told of commits that the
// mirror lacks.
type ending struct {
	Proven bool   `json:"proven"` // there are none
	Why    string `json:"why"`
	// Sequences are the role_sequence of each session, by guid, when the process ended.
	Sequences map[string]int32 `json:"role_sequences"`
	// Ends are how far each database's log was on this host's disk at the last look, as numeric(25,0).
	Ends map[string]string `json:"end_of_log"`
}

// sight is what is kept of the last look, for when the process ends.
type sight struct {
	began  time.Time
	run    string
	unsafe []string // databases of which the mirror may lack something
	ends   sqlserver.Vector
	seqs   map[string]int32
	// joined is when each session was last seen in this run with this host as its connected mirror, by guid.
	joined map[string]time.Time
}

// sightOf keeps of a look what counts later. before is the last one.
func sightOf(l look, before sight) sight {
	s := sight{
		began: l.began, run: l.run, ends: l.ends(), seqs: map[string]int32{}, joined: map[string]time.Time{},
	}
	for _, d := range l.unit {
		if joined(d) {
			s.joined[d.GUID] = l.began
		} else if at, ok := before.joined[d.GUID]; ok && before.run == l.run {
			s.joined[d.GUID] = at
		}
		// A mirror has told nobody of anything.
		if !d.mirror() && !(d.principal() && d.safe()) {
			s.unsafe = append(s.unsafe, strings.TrimSpace(d.Database+" "+d.Role+" "+d.State))
		}
		if d.mirrored {
			s.seqs[d.GUID] = d.RoleSequence
		}
	}
	return s
}

// endingOf is what the last look says about the end of a process, age after it.
func endingOf(s sight, age time.Duration) ending {
	e := ending{Sequences: s.seqs, Ends: map[string]string{}}
	for name, lsn := range s.ends {
		e.Ends[name] = lsn.Decimal()
	}
	switch {
	case s.began.IsZero():
		e.Why = "the agent had not looked at the instance before it ended"
	case age > proofAge:
		e.Why = fmt.Sprintf("the last look was %v before the end", age.Round(time.Millisecond))
	case len(s.unsafe) > 0:
		e.Why = "the mirror did not have everything: " + names(s.unsafe)
	default:
		e.Proven = true
		e.Why = fmt.Sprintf("what was principal was SYNCHRONIZED %v before the end", age.Round(time.Millisecond))
	}
	return e
}

// covers says that the end is that of the role that one forced service has taken a suspended session out of: this
// host was its principal, and there was one exchange of roles since.
func (e *ending) covers(d database) bool {
	if e == nil {
		return false
	}
	was, ok := e.Sequences[d.GUID]
	return ok && d.mirror() && d.RoleSequence == was+1
}

// suspended says why a suspended session is left as it is, and what a person can do; "" if it may be resumed.
func suspended(d database, e *ending) string {
	resume := "ALTER DATABASE [" + d.Database + "] SET PARTNER RESUME"
	switch {
	case !e.covers(d):
		return fmt.Sprintf("%s is SUSPENDED, and not by a failover of this pair that this host knows of: find out why in "+
			"the error log (a full disk, a redo error, a person's SUSPEND), then run %s on the principal",
			d.Database, resume)
	case e.Proven:
		return ""
	}
	return fmt.Sprintf("%s is SUSPENDED after a forced service, and this host may have commits that the new principal "+
		"lacks (%s; its log ended at LSN %s or later). %s on the principal discards them. To save them first, take "+
		"mirroring off this database here (SET PARTNER OFF), recover it under another name and compare",
		d.Database, e.Why, orUnknown(e.Ends[d.Database]), resume)
}

func orUnknown(text string) string {
	if text == "" || text == "0" {
		return "unknown"
	}
	return text
}
