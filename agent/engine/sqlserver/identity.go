package sqlserver

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// MirroringID is the identity of the databases that two instances hold copies of: of the sessions' GUIDs, which both
// sides have and which no name, address or restore changes. "" if there is none.
func MirroringID(rows []MirroringRow) string {
	if len(rows) == 0 {
		return ""
	}
	guids := make([]string, 0, len(rows))
	for _, r := range rows {
		guids = append(guids, r.GUID)
	}
	slices.Sort(guids)
	sum := sha256.Sum256([]byte(strings.Join(guids, "\n")))
	return fmt.Sprintf("mirroring:%x", sum[:8])
}

// GroupID is the identity of an availability group.
func GroupID(g GroupRow) string { return "ag:" + g.ID }

// Unit picks the sessions that move together, in the order in which they move.
func (c Config) Unit(rows []MirroringRow) []MirroringRow {
	unit := slices.DeleteFunc(slices.Clone(rows), func(r MirroringRow) bool { return !c.InUnit(r.Database) })
	place := func(r MirroringRow) int { return slices.IndexFunc(c.Databases, sameName(r.Database)) }
	slices.SortStableFunc(unit, func(a, b MirroringRow) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(strings.ToLower(a.Database), strings.ToLower(b.Database))
	})
	return unit
}

// DatabaseState is a session in the words of Get-CsDatabaseMirrorState, which Lync's administrators read.
func (c Config) DatabaseState(r MirroringRow, lag Lag) engine.DatabaseState {
	s := engine.DatabaseState{Name: r.Database, Sets: c.SetsOf(r.Database), Role: titled(r.Role), Status: titled(r.State)}
	var detail []string
	if r.DatabaseState != DatabaseOnline && (r.Role == RolePrincipal || r.DatabaseState != DatabaseRestoring) {
		detail = append(detail, r.DatabaseState)
	}
	if r.Safety != SafetyIsFull {
		detail = append(detail, "SAFETY "+r.Safety)
	}
	if r.Witness != "" {
		detail = append(detail, "SQL Server witness "+r.Witness+" "+strings.ToLower(r.WitnessState))
	}
	if text := lag.Detail(); text != "" {
		detail = append(detail, text)
	}
	s.Detail = strings.Join(detail, "; ")
	return s
}

// titled makes a word of SQL Server's views one of Lync's cmdlets: PENDING_FAILOVER becomes PendingFailover.
func titled(word string) string {
	var text strings.Builder
	for part := range strings.SplitSeq(strings.ReplaceAll(word, " ", "_"), "_") {
		if part != "" {
			text.WriteString(part[:1] + strings.ToLower(part[1:]))
		}
	}
	return text.String()
}
