// Package rpc is the witness's edge: it puts the services of proto/witness/v1 on a gRPC server. Every node
// takes every call. A call that only the leader can answer is passed on to it, and an agent's session on a
// follower is carried to the leader by a relay, so that agents, load balancers and people need not know who
// leads; a change of leader breaks none of their streams.
//
// It converts and asks. What is decided, the package learns through the interfaces that it declares: a
// [Court] for questions about pairs, a [Group] for the witness itself.
//
// # What it promises
//
//   - The receipt of a heartbeat is the leader's: a relay adds nothing of its own (rule R1).
//   - A call that changes something is passed on a second time only if it is known not to have been heard.
//   - Whatever is refused has a reason for programs, a sentence for people and, where there is something to
//     be done, what (errors.go is the only place where reasons become gRPC codes).
//
// # What it does not do
//
// It authenticates nobody yet: see Options.Credentials.
package rpc
