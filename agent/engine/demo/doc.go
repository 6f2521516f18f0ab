// Package demo drives demodb, the demonstration database, as an engine: with it one can watch a failover
// on a machine that has no database installed, and the agent's tests have a real process to kill.
//
// What it relies on, and where it comes from:
//
//   - demodb starts as a mirror whoever starts it, and lets commits go alone only until it ends. So the
//     restart gate (rule R10) needs nothing on disk that could be missing or stale. It is also why
//     LetGo cannot outlast the process.
//   - Which process owns a data directory is asked of the kernel, also when that process hangs and
//     whoever started it; its end is told by a pidfd. Nothing is guessed from a number in a file.
//   - "Seen to hold" is demodb's own proof: a probe entry, written behind the switch in the very queue of
//     the clients' commits, is found on the primary's disk and not acknowledged, or acknowledged by the
//     mirror. In mode alone both happen in one step under one lock, so seeing the first without the
//     second shows that the mode is in force, without waiting for a mirror that may not be there.
//
// demodb is started detached and survives its agent; under systemd the agent's unit needs
// KillMode=process for that. The next agent adopts it. It works on Linux only, for the pidfd.
package demo
