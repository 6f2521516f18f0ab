// Package kv is a small key-value database with a mirror: the database behind the demo engine. With it
// one can show and test a failover on a machine that has nothing installed, and a real kill -9 hits a
// real process with real files.
//
// What it guarantees:
//
//   - A write is answered OK only when it is on this server's disk and, in mode held, when the one mirror
//     that the mode names has confirmed it on its own disk as well.
//   - A server starts always as a mirror: it refuses writes until somebody who may use its admin socket
//     promotes it, whatever it was before and whoever starts it. Mode alone, too, ends with the process.
//     A primary never turns back into a mirror within one run; it is stopped and started.
//   - A read on a primary sees confirmed writes only, so nothing that was read can be lost in a failover.
//   - A promotion begins a new timeline in the log. A copy that went another way is found out by its
//     timelines, and the entries that nobody else has are put aside before they are cut off.
//   - A copy that is not whole (a copy or a cut under way, a damaged log) is never promoted.
//
// What it does not do: compact its log, encrypt, know users, feed a mirror from a mirror. It is a
// demonstration and no place for data that somebody needs.
//
// # For clients
//
// One line in, one line out, so that netcat will do:
//
//	SET key value     OK                        value is the rest of the line
//	GET key           VALUE value | NONE
//	INCR key          VALUE number
//	DEL key           OK
//	COUNT [prefix]    VALUE number
//	SCAN [prefix [n]] KEY key value, for each; then END number
//	ROLE              ROLE primary | ROLE mirror
//	STATUS            STATUS {json}
//	PING              PONG
//	QUIT
//
// Refusals read "ERR code text". Code readonly says that nothing was done and that another server may be
// the primary; code unknown says that the write may or may not survive.
//
// # For the administrator
//
// Accepted on the admin socket only, arguments as name=value with URL escapes:
//
//	PROMOTE mirror=name
//	HOLD mirror=name
//	ALONE
//	FOLLOW address=host:port name=name [system=id] [copy=yes] [keep=yes]
//	HANDOVER mirror=name wait=2s
//	STOP
//
// # For mirrors
//
// A mirror dials the port of the clients and introduces itself (MIRROR); the primary answers with
// STREAM (and frames follow), DIVERGED at an offset, COPY, or ERR. See hello.go and frame.go.
package kv
