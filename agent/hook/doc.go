// Package hook runs an administrator's commands when the role of an instance changes.
//
// Nothing that a right rests on waits for a hook. Commands of one instance run one after the other, in the order
// of the events; those of several instances side by side. Each has a time limit, at which it is killed with all
// that it has started. No shell is involved, and nothing of the agent's is inherited but PATH, LANG and TZ.
//
// An event is told at most once for each start of the agent, and is lost if the agent is killed before its command
// has ended: a hook reacts to a change, and must not be the only thing that keeps something right. A command
// outlives an agent that is killed, without a time limit from then on.
package hook
