package protocol

// row is an event of a table that every DBA may hold us to, and the file that shows what happens.
type row struct {
	file  string // below testdata, without .txt
	event string // as the table words it
}

// whatHappensWhen lists the rows of DESIGN's table of that name, in its order.
func whatHappensWhen() []row {
	return []row{
		{"witness-leader-dies", "witness node, even the leader, dies"},
		{"whole-witness-lost", "whole witness lost"},
		{"mirror-lost", "mirror lost"},
		{"primary-database-dies", "database process of the primary dies"},
		{"primary-host-lost", "primary host lost"},
		{"primary-isolated", "primary isolated but alive"},
		{"primary-mirror-cut", "only primary–mirror cut"},
		{"primary-witness-cut", "only primary–witness cut"},
		{"mirror-witness-cut", "only mirror–witness cut"},
		{"mirror-then-witness-lost", "mirror lost, recorded, then witness lost"},
		{"witness-then-mirror-lost", "witness lost, then mirror lost"},
		{"primary-and-witness-lost", "primary and witness lost"},
		{"mirror-and-witness-meet-first", "mirror and witness meet first after all was lost"},
		{"agent-killed-or-frozen", "agent killed, frozen, or its host swapped to death"},
		{"agent-stopped-for-upgrade", "agent stopped for upgrade"},
	}
}

// sqlServerRows are the events of SQL Server's own failure table, in its order, for a database that is mirrored
// with a witness and synchronized unless the event says otherwise.
func sqlServerRows() []row {
	return []row{
		{"01-witness-lost", "witness lost"},
		{"02-mirror-lost", "mirror lost"},
		{"03-primary-lost", "principal lost"},
		{"04-primary-lost-not-synchronized", "principal lost while not synchronized"},
		{"05-primary-isolated", "principal isolated from mirror and witness, alive"},
		{"06-primary-mirror-link-cut", "only the link between principal and mirror is cut"},
		{"07-mirror-isolated", "mirror isolated"},
		{"08-primary-witness-link-cut", "only the link between principal and witness is cut; then the principal is lost"},
		{"09-mirror-witness-link-cut", "only the link between mirror and witness is cut; then the principal is lost"},
		{"10-witness-then-mirror-lost", "witness lost, then mirror lost, or both at once"},
		{"11-witness-then-primary-lost", "witness lost, then principal lost"},
		{"12-primary-and-mirror-lost", "principal and mirror lost"},
		{"13-primary-and-witness-lost", "principal and witness lost in the same moment"},
		{"14-new-primary-lost-old-returns", "failover from A to B, then B dies, A returns and reaches the witness"},
		{"15-primary-hung", "principal's instance or operating system hangs"},
		{"16-log-drive-fails", "log drive of the principal fails"},
		{"17-data-drive-fails", "data drive of the principal fails"},
		{"18-client-network-fails", "client network of the principal fails, mirroring network works"},
		{"19-one-database-fails", "one of N databases of an application fails"},
		{"20-mirror-redo-error", "redo error or full disk on the mirror"},
		{"21-shared-witness-lost", "witness of N pairs lost"},
	}
}

// belowTheTable are what the same documents say of sessions without a witness.
func belowTheTable() []row {
	return []row{
		{"below-1-without-witness", "high safety without a witness"},
		{"below-2-high-performance", "high performance (asynchronous)"},
		{"below-3-restart-hole", "old principal restarted, no witness set"},
	}
}

// further are scenarios that no table has.
func further() []row {
	return []row{
		{"witness-restored", "witness restored from a snapshot that is older than a failover"},
		{"slow-network", "answers come late"},
		{"slow-log", "the witness takes seconds to write a decision"},
		{"mirror-stops-while-arming", "the mirror stops in the moment in which commits begin to wait for it"},
		{"agent-restarted-over-a-dead-database", "agent and database end, an operator fails over, the agent comes back"},
		{"engine-that-cannot-hold", "an engine stops holding commits by itself when its mirror is gone"},
		{"three-failures", "failures one after the other, each before the pair is armed again"},
	}
}
