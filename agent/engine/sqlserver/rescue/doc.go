// Package rescue is the engine kind sqlserver-rescue (mode 0): pairs that keep SQL Server's own witness.
//
// SQL Server decides who serves, and goes on deciding it. A principal with a witness serves only while it is
// connected to its mirror or to that witness, so a witness that dies turns the next single failure into an outage,
// for every pair that it is shared by: a principal whose mirror is lost then stops, although nothing is wrong with
// it. SQL Server's documents say what to do: take the witness out while it is away. Nobody does that at night.
//
// The engine does it: while the partners are connected and everything is SYNCHRONIZED, and the witness has been gone
// for a while, it takes the witness out, gives the sessions a spare one if there is one, and brings the first one
// back when it has answered for long enough. Every statement is read back. It changes nothing else and lets nobody
// serve, so a fault of the agent's, or no agent at all, leaves SQL Server as it was.
//
// What it cannot do: once a second failure has happened SQL Server takes no SET WITNESS, so it comes too late for a
// mirror that is lost within Patience of the witness. And between taking the witness out and setting another one
// there is no automatic failover; without a spare, until the first one is back.
//
// decide.go says what to do, as a pure function; memory.go what is remembered; care.go does it.
package rescue
