// Package gate is the TCP gate of an instance: clients that connect to it are always at the primary, whichever
// of the two hosts they came to. It passes their bytes to the database of this host while this host serves, and
// to the gate of the partner's host while that one does; between the two, new connections wait.
//
// A connection belongs to the route that it was made under and ends with it. Toward the local database that is
// the right to serve, with its end on the host's boot-time clock: the gate has a timer of its own, and it looks at
// the clock before every single transfer, so that a process that was stopped and goes on does not deliver what it
// found in its buffers. A gate is a fence for those who come through it, not for others, and only while the
// process lives or is dead: package fence has what does not depend on that.
//
// Gates do not form loops. A gate introduces itself to the partner's gate with a PROXY protocol header that
// carries the client's address, and a connection that begins so is served by the local database or not at all.
//
// On Linux the bytes are moved by a few threads with an epoll set each: small messages through one buffer per
// thread, streams by splice. An idle connection costs two descriptors and a few hundred bytes. On other systems,
// and for connections that are not TCP, two goroutines copy.
package gate
