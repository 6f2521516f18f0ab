package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Files in the data directory, beside PostgreSQL's own.
const (
	standbySignal  = "standby.signal"
	agentDir       = "witness"
	restFile       = agentDir + "/rest.conf"
	runFile        = agentDir + "/run.conf"
	incompleteFile = agentDir + "/incomplete"
)

// heldForNobody is a synchronous_standby_names that no receiver can satisfy: PostgreSQL replaces the tab in
// any application_name by a question mark.
const heldForNobody = "\"witness: held for nobody\t\""

// notHeld lets a commit be acknowledged by the primary alone.
const notHeld = ""

// heldFor is a synchronous_standby_names that only the named receiver satisfies.
func heldFor(receiver string) string { return `FIRST 1 ("` + receiver + `")` }

// runSettings are what changes while a server runs. The agent's every start begins with heldForNobody.
type runSettings struct {
	commits  string // synchronous_standby_names
	upstream string // primary_conninfo
	slot     string // primary_slot_name
}

func (s runSettings) pairs() []setting {
	return []setting{
		{"synchronous_standby_names", s.commits},
		{"primary_conninfo", s.upstream},
		{"primary_slot_name", s.slot},
	}
}

type setting struct{ name, value string }

// defaultSettings stand before the administrator's own, which win.
func defaultSettings() []setting {
	return []setting{
		// A mirror's slot must not fill the primary's disk while the mirror is away: beyond this the
		// mirror is cloned anew.
		{"max_slot_wal_keep_size", "8GB"},
		{"wal_keep_size", "256MB"},
		// A partner that is gone without a word holds its slot, and with it the way back, until this
		// has passed. More than the stalls of a busy disk, less than a person's patience.
		{"wal_sender_timeout", "5s"},
		{"wal_receiver_timeout", "5s"},
		// A mirror says at least this often what it has: a commit that waited while its name was not
		// yet in force is let go by the next such word.
		{"wal_receiver_status_interval", "1s"},
		{"wal_retrieve_retry_interval", "200ms"},
		{"tcp_keepalives_idle", "5"},
		{"tcp_keepalives_interval", "2"},
		{"tcp_keepalives_count", "3"},
	}
}

// fixedSettings hold in every run, whoever starts it. The agent repeats them on the command line, where
// ALTER SYSTEM cannot change them.
func fixedSettings() []setting {
	return []setting{
		{"hot_standby", "on"},
		// Lets pg_rewind mend a diverged copy; data checksums would do too.
		{"wal_log_hints", "on"},
		{"recovery_target_timeline", "latest"},
		// A crashed backend ends the server, so that the witness learns of it and decides who goes on.
		// A server that restarts within its own postmaster would find standby.signal and turn into a
		// copy while its process, and the agent's proofs for this run, seem to go on.
		{"restart_after_crash", "off"},
	}
}

// managedSettings are the names that a configuration must leave to the agent.
func managedSettings() []string {
	names := []string{"listen_addresses", "port", "unix_socket_directories", "config_file",
		"data_directory"}
	for _, s := range slices.Concat(fixedSettings(), runSettings{}.pairs()) {
		names = append(names, s.name)
	}
	return names
}

// restText is what a server reads that was not started by the agent: a copy without an upstream, whose
// commits would wait for ever if somebody promoted it.
func restText() string {
	return "# Written by witness-agent. A server that the agent did not start is a copy that acknowledges\n" +
		"# no commit, also if it is promoted by hand. Do not edit: this file is written again.\n" +
		lines(append(fixedSettings(), runSettings{commits: heldForNobody}.pairs()...))
}

// runText is the config_file of a server that the agent starts.
func runText(adminFile string, extra map[string]string, s runSettings) string {
	var more []setting
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		more = append(more, setting{name, extra[name]})
	}
	return "# Written by witness-agent for the server that it started, and read by no other start.\n" +
		"# Change " + adminFile + " instead.\n" +
		lines(defaultSettings()) +
		"include " + quote(adminFile) + "\n" +
		lines(more) + lines(fixedSettings()) + lines(s.pairs())
}

// includeLine is the agent's one line in the administrator's file. The server refuses to start if the file
// that it names is missing, which is better than a start that may acknowledge commits.
func includeLine(restPath string) string {
	return "include " + quote(restPath) +
		" # witness-agent: a start without the agent is a copy; keep this the last line"
}

func lines(settings []setting) string {
	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, "%s = %s\n", s.name, quote(s.value))
	}
	return b.String()
}

// quote writes a value as configuration files, and PostgreSQL's replication commands, take it.
func quote(value string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\t", `\t`, "\n", `\n`).Replace(value) + "'"
}

// receiverPrefix begins the name of every pair's receiver.
const receiverPrefix = "witness_"

// receiverName is the application_name and the slot of the pair's mirror. The pair id is in it so that no
// other receiver's word counts for the mirror's.
func receiverName(pair string) string {
	const most = 63 // NAMEDATALEN - 1
	name := receiverPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, pair)
	return name[:min(len(name), most)]
}
