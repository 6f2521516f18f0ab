// Package whole runs the whole system in the virtual time of testing/synctest: real nodes of the witness on
// raftstore, real gRPC, real agents with their sessions, links, fences and epoch files, all in one bubble on the
// network and the disks of raftstoretest. Hours take seconds, and instants are exact.
//
// The databases are of this package, in memory: agent/engine/demo drives a process over TCP, which no bubble can
// hold. They are small replicated logs that do what agent/engine asks for: commits wait for the mirror's flush,
// which comes over the network in memory (the network of a host's database is one of its own, "a-db", so that it
// can be cut apart from its agent's), copies that differ are rewound, processes crash, with the kernel's word
// of it, and hang. One client writes on every host all the time, and every acknowledgement and every opening is
// held against the two promises: G1, never two hosts open, and G2, no acknowledged commit missing.
//
// Clocks count from different instants on every node and host. What the agents and the witness say to each other
// is read off the wire, so that a wait can be held against the instant of the very request that it counts from.
//
// The fence is that of level "engine": an agent that is killed or frozen does not fence (DESIGN section 4). So
// faults here end an agent together with its host, or for less than a lease.
//
// Flags: -hours is how many hours of random faults TestHours has (half an hour; a nightly run asks for 6), -seed
// what they begin with, -pairs how many pairs TestHundredsOfPairs has (300). WITNESSD_TEST_LOG=1 in the
// environment shows what happened, also where nothing failed.
package whole
