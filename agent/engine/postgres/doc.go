// Package postgres drives one PostgreSQL instance (version 15 and later, on Linux) for the agent: it starts
// the server, makes it follow, promotes it, holds its commits for the mirror, hands over and fences.
//
// # Who may let a client write
//
// Two files at rest in the data directory make every start a harmless one, whoever starts the server:
//
//   - standby.signal is always there while the agent is not inside Promote, so that the server comes up
//     as a copy. PostgreSQL removes it at the end of a promotion; it is put back before the first commit
//     can be acknowledged.
//   - witness/rest.conf, included at the end of postgresql.conf, makes commits wait for a mirror whose name
//     no receiver can have. A server that somebody promotes by hand acknowledges nothing.
//
// The settings of a run that the agent started are in another file, witness/run.conf, which is the
// config_file on the server's command line. Only there are commits released or held for the real mirror.
// No other start reads it, and postmaster.opts, which "pg_ctl restart" repeats, is rewritten to say so. So
// the right to commit ends with the run of the process.
//
// When the pair is removed, LetGo takes all this away again from a primary (letgo.go). Whatever the agent does
// with the instance later, to run it, promote it or make it follow, puts it back first.
//
// # What a promise to hold commits rests on
//
// PostgreSQL applies synchronous_standby_names in the checkpointer, some time after the reload. So it is
// not believed but seen: commits are first held for nobody, a commit of the engine's own is watched until
// it waits, and only then are they held for the mirror (hold.go).
//
// It does not hold back sessions that lower synchronous_commit for themselves, nor commits whose wait a
// superuser cancels, and it does not decide anything: see package engine.
package postgres
