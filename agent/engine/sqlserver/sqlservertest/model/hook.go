package model

import "time"

// groupHook is how availability groups take part in an instance. All methods run on the instance's loop. What they may
// use there: i.databases and their logs (store.go), i.link, i.send and i.wants (link.go), i.save and i.file (saved.go),
// database.endSessions.
type groupHook interface {
	// access says whether db may be used; ours is false for a database that is in no group.
	access(d *database, write bool) (ours bool, err *Error)
	// committed is told of a record that was hardened here; done is to be called, later or at once, when the commit may
	// be acknowledged, or failed. ours is false for a database that is in no group.
	committed(d *database, lsn LSN, done func(error)) (ours bool)
	// peers are the addresses of endpoints that a link is wanted to, each with the silence after which it is lost.
	peers() map[string]time.Duration
	// linked and lost tell of links.
	linked(peer string)
	lost(peer string)
	// received is called for a message with Kind "group".
	received(peer string, m message)
	// tick is called every half ping.
	tick(at time.Time)
	// describe completes a row of sys.databases.
	describe(d *database, row *Database)
}
