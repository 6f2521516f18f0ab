// Package arbiter runs the leader's side of the protocol. Give it a replicated log and a clock, and for each
// term that this node leads let [Arbiter.Serve] hold an [Office]: agents take a [Seat] in it and send
// heartbeats, operators ask, and what package pair decides is done: answers, proposals, nudges, fencing.
//
// # What it promises
//
//   - One goroutine owns the watches of a term, and they die with it (rule R4). Serve returns only when
//     everything of its term has ended.
//   - Nothing is answered, to an agent or to an operator, before a quorum has accepted this leader by a
//     message that was begun after the question's receipt (rule R2). Whether a lease is granted is decided
//     after that, so a change that was decided meanwhile counts (rule R3).
//   - A pair's watch and record move together. Both are changed by the office alone, which learns of changes
//     of the record from the ledger in the order of the log; an answer never mixes a newer one with an older.
//   - Nobody can hold the office up. Queues are bounded, outlets must not block, and a heartbeat that finds
//     no room is dropped: its agent repeats it.
//
// # What it does not do
//
// It decides nothing: that is package pair's. It knows neither Raft nor the network: those are handed to it.
package arbiter
