// Package agent is the host's side: one process per host that sends heartbeats to the witness and to the
// partners, does to the database what the right allows, and makes sure that a database without a right does
// not serve.
//
// One goroutine, the loop in loop.go, owns the state of every pair on the host. Everything else (sessions,
// looks at the databases, operations on them, HTTP) runs beside it and talks to it by events; the decisions
// are the pure functions of agent/hold. The fence has a goroutine and a timer of its own, so that a stalled
// loop or disk cannot keep a database open beyond its right.
package agent
