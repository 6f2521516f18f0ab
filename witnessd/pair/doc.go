// Package pair decides. It holds the protocol's half that runs on the witness, as two pure functions over
// values: [Record.Apply] says what did happen (every node, in log order), [Step] says what should happen
// (the leader only, from its volatile [Watch]).
//
// There is no clock and no I/O here. Time comes in as an [Instant] of the leader's boot-time clock; a
// decision goes out as an [Action], and a change of the replicated [Record] only as a [Command] through the
// log. Each rule of the design (R1 to R16) that the witness keeps is named at the place that keeps it.
//
// What this package does not do: it does not know who leads (rule R2 is kept in raftstore and arbiter), it
// does not confirm leadership, and it does not wait.
package pair
