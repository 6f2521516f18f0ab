// Package raftstore keeps a replicated log that one can propose to. It is the only importer of
// hashicorp/raft, whose traps are described and avoided here once; it knows nothing of what is in the log.
//
// # What it promises
//
//   - An entry that [Store.Propose] reports as applied is in the log of a quorum, on disk, for ever, and
//     every node's [Machine] applies it at the same place.
//   - [Store.Lead] runs an office for each term that this node leads: never two at a time, and only after a
//     barrier of that term has been applied, so that the office reads what its predecessors wrote.
//   - [Store.Confirmed] says up to which mark a quorum of voters has accepted this node as the leader of a
//     term, by messages that were begun after the mark. It does not depend on any clock, costs no message
//     and no disk access, and serves any number of waiting requests at once.
//   - A node whose disk hangs or fails ends its process ([Options.OnFault]); it never goes on with a state
//     that it does not know to be on disk.
//   - A node whose files are not what it wrote does not start ([ErrDamaged]): cut short, a bit lost, a page of
//     something else, gone. Only a whole file, or a last write, that the disk has replaced by an older one
//     looks like what it was.
//
// # What it does not promise
//
//   - That only one node believes to lead: an old leader may believe it for a moment. That is what
//     Confirmed is for.
//   - That a proposal that fails had no effect: see [ErrOutcomeUnknown].
//   - That a node whose directory was emptied is the node it was. Such a node has forgotten its votes; it
//     must be removed and added again (see [Options.Bootstrap]).
//   - That two groups are kept apart. A restored group ([Restore]) must not share addresses with running
//     nodes of the group it was taken from.
//
// # Time
//
// Every duration in this package is measured by the Go runtime's monotonic clock of this node, and none of
// them carries safety: they decide when to give up, never who leads.
package raftstore
