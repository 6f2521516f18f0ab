package sqlserver

import (
	"fmt"
	"slices"
	"strings"
)

// What rows say about an instance's health. Everything here is a pure function; health.go asks and remembers.

// The failure-condition levels of availability groups, by which administrators know them. An instance that meets the
// condition of a level meets that of every higher one: level 3 is less strict than level 5.
const (
	LevelDown       = 1 // the process is gone
	LevelSilent     = 2 // sp_server_diagnostics does not answer
	LevelSystem     = 3 // component system in error: orphaned spinlocks, access violations, too many dumps
	LevelResource   = 4 // component resource in error: no memory
	LevelProcessing = 5 // component query_processing in error: worker threads exhausted, unsolvable deadlocks
)

const diagnosticError, diagnosticWarning = "error", "warning"

// Condition is the lowest failure-condition level that the components meet, 0 if none.
func Condition(rows []DiagnosticRow) int {
	level := 0
	for _, r := range rows {
		if r.State != diagnosticError {
			continue
		}
		at := 0
		switch r.Component {
		case "system":
			at = LevelSystem
		case "resource":
			at = LevelResource
		case "query_processing":
			at = LevelProcessing
		}
		if at != 0 && (level == 0 || at < level) {
			level = at
		}
	}
	return level
}

// diagnosticWarnings names the components that are not well. io_subsystem counts for no level, as in availability
// groups: a slow disk is told, and the mirror may lie on the same one.
func diagnosticWarnings(rows []DiagnosticRow) []string {
	var said []string
	for _, r := range rows {
		if r.Component != "events" && (r.State == diagnosticError || r.State == diagnosticWarning) {
			said = append(said, fmt.Sprintf("sp_server_diagnostics reports %s for %s", r.State, r.Component))
		}
	}
	return said
}

// DatabaseFault says why a database cannot serve, or could not if it had to, and "" if nothing is wrong. RESTORING
// is how a mirror is.
func DatabaseFault(state string) string {
	switch state {
	case DatabaseSuspect:
		return "is SUSPECT: its recovery failed; read SQL Server's error log"
	case DatabaseRecoveryPending:
		return "is RECOVERY_PENDING: a file is missing or cannot be read; read SQL Server's error log"
	case "EMERGENCY":
		return "is in EMERGENCY, where somebody has put it to repair it"
	case "OFFLINE":
		return "is OFFLINE, where somebody has put it"
	default:
		return ""
	}
}

// broken says that a database lacks something that another host may have.
func broken(state string) bool { return state == DatabaseSuspect || state == DatabaseRecoveryPending }

func databaseWarnings(rows []DatabaseRow) []string {
	var said []string
	for _, r := range rows {
		if fault := DatabaseFault(r.State); fault != "" {
			said = append(said, r.Name+" "+fault)
		}
	}
	return said
}

// logFullAt is the part of a log, in percent, from which it is as good as full: a log grows in steps, so the last
// step may be refused.
const logFullAt = 90

// logWarnings names the logs that are nearly full, and why they cannot be reused.
func logWarnings(used []CounterRow, databases []DatabaseRow) []string {
	var said []string
	for _, u := range used {
		i := slices.IndexFunc(databases, func(d DatabaseRow) bool { return strings.EqualFold(d.Name, u.Database) })
		if i < 0 || u.Value < logFullAt {
			continue
		}
		text := fmt.Sprintf("%s: the log is %d %% full", u.Database, u.Value)
		if why := logWait(databases[i].LogWait); why != "" {
			text += ": " + why
		}
		said = append(said, text)
	}
	return said
}

// logWait is why a log cannot be reused, and what to do.
func logWait(reason string) string {
	switch reason {
	case "DATABASE_MIRRORING":
		return "it keeps what the mirror lacks; bring the mirror back, or take mirroring off"
	case "AVAILABILITY_REPLICA":
		return "it keeps what a replica lacks; bring that replica back, or remove it"
	case "LOG_BACKUP":
		return "back it up"
	case "ACTIVE_TRANSACTION":
		return "a transaction is open for long"
	case "", "NOTHING":
		return ""
	default:
		return "it waits for " + reason
	}
}
