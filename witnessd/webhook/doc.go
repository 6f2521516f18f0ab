// Package webhook tells other systems over HTTP what happened to pairs, signed and in the order of the history.
//
// A webhook is called for each event of the history that its configuration chooses, as the Standard Webhooks
// specification has it: the receiver checks webhook-signature over webhook-id, webhook-timestamp and the body.
//
// # What it promises
//
//   - At least once. Only the leader of the witness calls, and how far each webhook has come is in the replicated
//     log: the next leader goes on there. What was delivered after the last note in the log is delivered again, with
//     the same webhook-id. Nothing is skipped without a word: where the history no longer holds what a webhook
//     has not got, a message of type "missed" says how many events that were.
//   - In order. A webhook gets an event only after it has taken the one before it; a receiver that is down is called
//     again and again, for as long as it takes.
//   - Apart. Each webhook has a goroutine of its own: a slow receiver holds up no other one, and never a decision.
//   - A new webhook begins with the first event after it was configured.
//
// # What it does not do
//
// It decides nothing, and nothing that a receiver answers comes back to the witness.
package webhook
