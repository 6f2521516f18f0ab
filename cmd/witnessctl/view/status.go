package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Status shows the witness itself: its nodes, and whether it can decide. Alone is the view of a node that has
// not asked the others.
func (v View) Status(s *witnessv1.GetStatusResponse, alone bool) string {
	var b strings.Builder
	leader, style := "leader "+s.GetLeader(), table.Faint
	switch s.GetLeader() {
	case "":
		leader, style = "NO LEADER IS KNOWN to it", table.Bad
	case s.GetNode():
		leader = "the leader"
	}
	b.WriteString(v.Screen.Paint(table.Clean(fmt.Sprintf("answered by %s, %s, term %d, at %s", s.GetNode(), leader,
		s.GetTerm(), v.time(s.GetAt()))), style) + "\n\n")
	b.WriteString(v.nodes(s, alone) + "\n")

	up, voters := 0, 0
	for _, n := range s.GetNodes() {
		if n.GetVoter() {
			voters++
			if n.GetReachable() {
				up++
			}
		}
	}
	switch {
	case Outside(s):
		b.WriteString(v.Screen.Paint("this node waits for node add: it is no part of a witness", table.Warn) + "\n")
	case alone:
		b.WriteString("the view of one node, which has not asked the others whether they answer\n")
	default:
		b.WriteString(v.quorum(up, voters) + "\n")
	}
	if s.GetLeader() != "" && !s.GetReady() {
		b.WriteString(v.Screen.Paint("not ready: the leader has not answered agents in its term yet", table.Warn) + "\n")
	}
	generation := "never restored"
	if s.GetGeneration() > 0 {
		generation = fmt.Sprintf("generation %d (times restored)", s.GetGeneration())
	}
	b.WriteString(fmt.Sprintf("%s, log at %d of %d, %s\n", counted(int(s.GetPairs())), s.GetAppliedIndex(),
		s.GetCommitIndex(), generation))
	return b.String()
}

// Outside says whether an answer is that of a node that is no part of a witness: not yet, or no more.
func Outside(s *witnessv1.GetStatusResponse) bool {
	return s.GetLeader() == "" && !slices.ContainsFunc(s.GetNodes(), func(n *witnessv1.NodeStatus) bool {
		return n.GetId() == s.GetNode() && n.GetVoter()
	})
}

// quorum says how many more nodes may fail.
func (v View) quorum(up, voters int) string {
	need := voters/2 + 1
	text := fmt.Sprintf("%d of %d voting nodes answer, %d are needed: ", up, voters, need)
	switch spare := up - need; {
	case spare < 0:
		return v.Screen.Paint(text+"nothing can be decided", table.Bad)
	case spare == 0 && voters > 1:
		return v.Screen.Paint(text+"no other may fail", table.Warn)
	case spare == 0:
		return v.Screen.Paint(text+"a single node is no protection", table.Warn)
	default:
		return text + fmt.Sprintf("%d may fail", spare)
	}
}

func (v View) nodes(s *witnessv1.GetStatusResponse, alone bool) string {
	t := table.Table{Columns: []table.Column{
		{}, {Title: "NODE"}, {Title: "ROLE"}, {Title: "CONTACT", Right: true}, {Title: "BEHIND", Right: true},
		{Title: "SESSIONS", Right: true, Drop: 1}, {Title: "UPTIME", Right: true, Drop: 3},
		{Title: "VERSION", Drop: 2}, {Title: "API", Min: 12}, {Title: "RAFT", Min: 12, Drop: 4},
	}}
	for _, n := range s.GetNodes() {
		mark, role := table.Cell{}, table.Cell{Text: "follower"}
		switch {
		case n.GetLeader():
			role = table.Cell{Text: "leader", Style: table.Good}
		case !n.GetVoter():
			role = table.Cell{Text: "no vote", Style: table.Warn}
		}
		row := []table.Cell{mark, {Text: n.GetId()}, role, {Text: contact(n)},
			{Text: "-"}, {Text: "-"}, {Text: "-"}, {Text: "-"}, {Text: n.GetApiAddress()}, {Text: n.GetRaftAddress()}}
		switch {
		case n.GetReachable():
			behind := max(s.GetCommitIndex(), n.GetAppliedIndex()) - n.GetAppliedIndex()
			row[4].Text = strconv.FormatUint(behind, 10)
			row[5].Text = strconv.FormatUint(uint64(n.GetSessions()), 10)
			row[6].Text = Duration(n.GetUptime().AsDuration())
			row[7].Text = cmp.Or(n.GetVersion(), "?")
		case alone:
			row[3].Text = "not asked"
		default:
			row[0] = table.Cell{Text: "!", Style: table.Bad}
			row[2] = table.Cell{Text: "down", Style: table.Bad}
			if !n.GetVoter() {
				row[2].Text = "down, no vote"
			}
			row[3].Style = table.Bad
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Render(v.Screen)
}

// contact is how long ago the leader heard from a node.
func contact(n *witnessv1.NodeStatus) string {
	switch {
	case n.GetLeader():
		return "-"
	case n.GetLastContact() == nil && n.GetReachable():
		return "answers"
	case n.GetLastContact() == nil:
		return "no answer"
	default:
		return Duration(n.GetLastContact().AsDuration())
	}
}
