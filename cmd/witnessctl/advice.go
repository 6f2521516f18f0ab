package main

import "cmp"

// subject is what a verb is about: a pair, or the nodes of the witness.
type subject struct {
	pair  string // as it was called; empty if it is about none
	nodes bool
}

// look is where to see how the subject is.
func (s subject) look() string {
	if s.nodes {
		return "witnessctl status"
	}
	return "witnessctl pair show " + cmp.Or(s.pair, "NAME")
}

// advice is what to do about a refusal whose witness does not say it.
func (s subject) advice(reason string) string {
	if s.nodes {
		return nodeAdvice(reason)
	}
	return pairAdvice(reason, cmp.Or(s.pair, "NAME"))
}

func nodeAdvice(reason string) string {
	switch reason {
	case "NODE_UNREACHABLE":
		return "start it with an empty data directory, and check --raft and --api from the other nodes; " +
			"see witnessctl status"
	case "NODE_BEHIND":
		return "wait until it has caught up, or choose another: witnessctl status"
	default:
		return "see witnessctl status"
	}
}

// pairAdvice goes by the reason. One that is not listed needs none, or is newer than this program.
func pairAdvice(reason, pair string) string {
	explain := "see witnessctl pair explain " + pair
	switch reason {
	case "UNKNOWN_PAIR":
		return "see witnessctl pair list; a removed pair is known by its id only"
	case "NAME_TAKEN":
		return "choose another name, or remove that pair first"
	case "STALE_REVISION", "STALE_EPOCH":
		return "read the pair again and decide on what it says now: witnessctl pair show " + pair
	case "PROCEDURE_UNDER_WAY", "CHANGE_UNDECIDED":
		return "wait for it to end: witnessctl pair watch " + pair
	case "FORMING", "WITNESS_RESTORED", "AGENT_AHEAD_OF_RECORD", "GRACE", "LEASE_OUTSTANDING", "PROMISE_OUTSTANDING",
		"MIRROR_NOT_HEARD_THIS_LEADER", "MIRROR_NOT_PROMOTABLE", "MIRROR_NOT_FOLLOWING", "EXPOSED", "TIMED_OUT",
		"HOST_HAS_OTHER_RIGHT", "HOST_CONFLICT", "EPOCH_FILE_MISSING":
		return explain
	case "MIRROR_SILENT", "PRIMARY_SILENT", "HOST_SILENT":
		return "look at the agent of that host; " + explain
	case "MODE_NOT_AUTOMATIC":
		return "witnessctl pair resume " + pair
	case "RIGHT_SOLE":
		return "pause the pair first: witnessctl pair pause " + pair + " --reason ..."
	case "MIRROR_HEARS_PRIMARY":
		return "the primary is there: use witnessctl pair switchover " + pair
	case "HOST_OFF_NOT_CONFIRMED":
		return "make sure that the primary is off or cut from its clients, then add --host-off HOST with its name"
	case "LOSS_NOT_ACCEPTED":
		return "add --accept-loss if commits that the mirror lacks may be lost"
	case "FENCING_FAILED":
		return "cut the old primary off by hand, then ask again with --host-off HOST"
	case "LOSS_NOT_EXCLUDED":
		return "wait for the primary, or accept the loss: witnessctl pair failover " + pair + " --accept-loss ..."
	case "ONLY_WATCHED":
		return "to let the witness decide, give the instance another engine (docs/sql-server.md)"
	case "GROUP_CHANGE":
		return "see witnessctl status"
	case "NO_SUCH_PROCEDURE":
		return "see witnessctl pair list and witnessctl events"
	default:
		return ""
	}
}
