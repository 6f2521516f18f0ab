// Package mirroring drives the mirrored databases of one SQL Server instance, without a witness of SQL Server's:
// SAFETY FULL, WITNESS OFF. All databases of a pair move together, in one order.
//
// # Who may let a client write
//
// SQL Server keeps a role for each database, over restarts too, and a principal without a witness serves whenever it
// runs. Nobody can put a gate in front of it from inside, so the gate is the agent's:
//
//   - what may be open is written to a file before it is: for each database the session (mirroring_guid) and the
//     number of exchanges of roles (role_sequence) at which Promote opened it. A principal with another number has
//     become one by an exchange that the witness has not spoken about yet. It is shown as a mirror that waits, as long
//     as its partner is connected, since then the partner is a mirror for certain;
//   - a principal without a connected partner is a primary, whoever made it one, and the agent ends it unless the
//     record names this host. A former principal is started only when its partner can be seen;
//   - the fence ends the process, with the kernel's word that it is gone, and with it every other database of the
//     instance.
//
// # What is lost, and what is not
//
// A principal goes on by itself when its mirror is gone; no one can veto that. So the engine states a bound
// (State.LossBound: lease and fence), and says at the next look that commits are no longer held. Nothing is lost when
// the process or the host of the primary dies while its databases are SYNCHRONIZED, nor when packets vanish, as long
// as the lease and the fence are shorter than PARTNER TIMEOUT: commits wait for that long.
//
// Service is forced on evidence only: this instance itself has seen each session SYNCHRONIZED when it was last
// connected, with this guid and this role_sequence, and has not been started since. After a forced service a former
// principal is SUSPENDED; to resume it is to discard what it had and the new principal has not. The engine resumes
// only where the last look before the end of the former primary's process excludes that there is anything.
//
// It is made from SQL Server's documentation and tested against a model of SQL Server (package sqlservertest), not
// against SQL Server.
package mirroring
