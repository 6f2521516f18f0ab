// Package link speaks for an agent: with every node of the witness ([Witness]) and with the agents of the
// partner hosts ([Partners]). It turns messages into the values of agent/hold and back, keeps connections up,
// and decides nothing.
//
// # What it promises
//
//   - Send never waits. A message that could not be sent yet is replaced by a newer one: each says all that
//     its sender has to say, so only the newest is worth sending.
//   - No connection waits for another: each has its own goroutines, and nothing is shared that can be held.
//   - What is handed to a callback was understood in full. A pair of which anything was not understood is
//     mute; a message that cannot be right ends its connection and is never acted on.
//   - When Run and Serve have returned, no goroutine is left and no callback comes any more.
//
// # What it does not promise
//
//   - That a message arrives, or arrives once, or that answers come in order over different nodes.
//   - That an error means anything but "not reached" (rule R11).
//
// Durations measured here decide when to give a connection up, never who may serve: those instants are the
// agent's own (rule R1). They are counted by the Go runtime's monotonic clock.
package link
