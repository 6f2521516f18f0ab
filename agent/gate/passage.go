package gate

import "net"

// passage is one client's connection and the one that was made for it.
type passage struct {
	way    *way
	client net.Conn
	server net.Conn
	// first goes to the server before the client's bytes: a PROXY header, and what was read while looking for one.
	first []byte
}

// carrier moves the bytes of passages.
type carrier interface {
	// carry takes a passage over, with its sockets, or says that it cannot.
	carry(p *passage) bool
	// cut resets all passages of a way. It does not wait; the channel is closed when that, and all that was asked
	// for before, is done.
	cut(w *way) <-chan struct{}
	// carried is how many bytes went to servers and to clients.
	carried() (toServers, toClients uint64)
	// stop cuts everything and returns when all is closed.
	stop()
}

func disband(crew []carrier) {
	for _, c := range crew {
		c.stop()
	}
}
