// Package hold decides on the host. For one pair it answers: may this host serve, until when, and what
// should its database do next? It is a pure function over values, [Step]; the agent around it owns the
// clock, the epoch file on disk, the sessions and the engine.
//
// Time comes in as an [Instant] of the host's boot-time clock, which counts suspend. The actions that come
// out are carried out in order, and a [Save] is on disk before the next action is begun (rule R7).
//
// What this package does not do: it does not fence. It says until when the right lasts ([Renew]) and the
// fence ends it by itself, also if this code never runs again.
package hold
