package sqlserver

// meaning is one row of the table.
type meaning struct {
	class  Class
	advice string
}

// lookUp is the one table of SQL Server's errors: by mirroring, by availability groups, by both, by everything else.
// The numbers were read from the documentation of the messages; which of them a situation returns has to be
// validated on a real server.
func lookUp(number int32) meaning {
	for _, table := range []func(int32) meaning{mirroringErrors, witnessErrors, groupErrors, databaseErrors} {
		if m := table(number); m.class != ClassOther {
			return m
		}
	}
	return meaning{}
}

// mirroringErrors are those of ALTER DATABASE ... SET PARTNER.
func mirroringErrors(number int32) meaning {
	switch number {
	case 1404: // The command failed because the database mirror is busy.
		return meaning{ClassRetry, adviceAgain}
	case 1421: // Communications to the remote server instance failed to complete before its timeout.
		return meaning{ClassRetry, "it may have been done; the state is read again, then " + adviceAgain}
	case 1428: // The database is in a wrong state for the request.
		return meaning{ClassRetry, adviceAgain}
	case 1438: // The server rejected the configure request.
		return meaning{ClassRetry, adviceAgain}
	case 1413: // Communications failed before mirroring was fully started.
		return meaning{ClassRetry, adviceConnect}
	case 1415: // The operation failed.
		return meaning{ClassRetry, adviceErrorLog}
	case 1474, 1479: // Connection error; connection timed out.
		return meaning{ClassRetry, adviceConnect}
	case 1470: // The alter request is only valid on the principal.
		return meaning{ClassWrongHost, adviceOther}
	case 1422: // The mirror is not caught up.
		return meaning{ClassPrecondition, "wait until every database is SYNCHRONIZED"}
	case 1447: // The partner is not up or not connected.
		return meaning{ClassPrecondition, adviceConnect}
	case 1455: // Not in the correct state for a forced service.
		return meaning{ClassPrecondition, "service can be forced only while the principal is disconnected"}
	case 1477: // Safety is not FULL.
		return meaning{ClassPrecondition, "set the session's SAFETY to FULL"}
	case 1418, 1449: // The address cannot be reached, or is not an address.
		return meaning{ClassPrecondition, adviceConnect}
	case 1446: // Already the witness.
		return meaning{ClassDone, ""}
	case 1473: // This edition does not allow changing the safety level.
		return meaning{ClassHuman, "this edition of SQL Server keeps the safety level that it has"}
	case 1476, 1424, 1425: // TIMEOUT out of range, or not a number.
		return meaning{ClassHuman, "choose a PARTNER TIMEOUT from 5 to 32767 seconds"}
	case 1406: // Unable to force service safely.
		return meaning{ClassHuman, "take mirroring off and recover the database, if its last state is good enough"}
	case 1430: // The session is unstable.
		return meaning{ClassHuman, adviceErrorLog}
	case 1457: // Synchronization was interrupted: the database is inconsistent.
		return meaning{ClassHuman, adviceRebuild}
	case 1459: // Mirroring metadata could not be read.
		return meaning{ClassHuman, adviceErrorLog}
	case 1462: // Redo failed for good; cannot be resumed.
		return meaning{ClassHuman, adviceRebuild}
	case 1453, 1454: // Suspended by an error, here or there.
		return meaning{ClassHuman, "mend what the error log says (a full disk, a damaged page), then resume"}
	case 1408, 1412, 1478: // The mirror's copy lacks log.
		return meaning{ClassHuman, "restore the missing log backups on the mirror WITH NORECOVERY"}
	case 1419, 1464, 1465, 1409, 1460: // Set-up is wrong: state, version, already configured.
		return meaning{ClassHuman, adviceErrorLog}
	case 1468: // Not on a database that is mirrored or in a group.
		return meaning{ClassHuman, "this cannot be done to a database that is mirrored or in an availability group"}
	case 1416, 1451: // Not configured for mirroring; no metadata.
		return meaning{ClassNotMirrored, "set up mirroring, or take the database out of the agent's configuration"}
	default:
		return meaning{}
	}
}

// witnessErrors are those of ALTER DATABASE ... SET WITNESS, and of quorum.
func witnessErrors(number int32) meaning {
	switch number {
	case 1426: // All three must be interconnected and the mirror caught up.
		return meaning{ClassPrecondition, "partners and witness must all be connected and SYNCHRONIZED"}
	case 1431: // Neither the partner nor the witness is available.
		return meaning{ClassPrecondition, "bring the partner or the witness back"}
	case 1456: // The command could not be sent to the remote instance.
		return meaning{ClassPrecondition, "see that partner and witness run and that their endpoints reach each other"}
	case 1445: // Bypassing recovery: no quorum or no link.
		return meaning{ClassPrecondition, "bring the partner or the witness back"}
	case 1427, 1429, 1433: // Not three distinct instances; the endpoint does not allow the role; not a witness.
		return meaning{ClassHuman, "the witness must be a third instance with an endpoint for the role WITNESS or ALL"}
	case 1439: // There is no witness.
		return meaning{ClassDone, ""}
	default:
		return meaning{}
	}
}

// groupErrors are those of ALTER AVAILABILITY GROUP.
func groupErrors(number int32) meaning {
	switch number {
	case 41113, 41131, 41165, 41163: // Failover pending; timed out while coming online, accessing, or waiting.
		return meaning{ClassRetry, adviceAgain}
	case 41104: // Failover failed: the resource is not online. Harmless where the replica is to be a secondary.
		return meaning{ClassRetry, adviceAgain}
	case 41190, 41121: // The local replica is in no state, or no role, to process the command.
		return meaning{ClassRetry, adviceAgain}
	case 41150, 41160: // Taking it offline failed; designating the primary failed.
		return meaning{ClassRetry, adviceErrorLog}
	case 41122: // Already primary.
		return meaning{ClassDone, ""}
	case 41140: // Not the primary.
		return meaning{ClassWrongHost, adviceOther}
	case 41142: // Cannot become primary: a database is not synchronized or not joined.
		return meaning{
			ClassPrecondition,
			"SQL Server knows of commits that this replica may lack; bring the other host back, or accept the loss " +
				"by hand",
		}
	case 41134: // Not the previous primary, and not everything is synchronized.
		return meaning{ClassPrecondition, "bring the previous primary back"}
	case 41143, 41144: // The local replica has failed.
		return meaning{ClassHuman, adviceErrorLog}
	case 47116: // Lease updates are not enabled for this group.
		return meaning{
			ClassHuman,
			"the group was created without WRITE_LEASE_VALIDITY: set write_lease to 0, or create the group anew",
		}
	case 47119: // The new expiry would be earlier than the present one.
		return meaning{ClassDone, ""}
	case 19407: // The lease has expired.
		return meaning{ClassUnavailable, adviceRole}
	default:
		return meaning{}
	}
}

// databaseErrors are those of opening, reading and writing, and of logging in.
func databaseErrors(number int32) meaning {
	switch number {
	case 952: // In transition.
		return meaning{ClassRetry, adviceAgain}
	case 954: // Acts as a mirror.
		return meaning{ClassUnavailable, adviceRole}
	case 955: // Lacks a quorum.
		return meaning{ClassUnavailable, "bring the mirror or SQL Server's witness back"}
	case 956: // Not yet synchronized.
		return meaning{ClassUnavailable, adviceRole}
	case 976, 978, 979, 983: // A replica that is not to be read, or not like this, or RESOLVING.
		return meaning{ClassUnavailable, adviceRole}
	case 988: // Lacks a quorum of nodes.
		return meaning{ClassUnavailable, "bring the other replicas back"}
	case 911, 942, 945, 922, 926, 927: // No such database; offline; damaged files; recovering; suspect; restoring.
		return meaning{ClassUnavailable, adviceErrorLog}
	case 1105, 9002: // The data files are full; the log is full.
		return meaning{ClassDisk, adviceLogBackup}
	case 823, 824, 825, 832, 9001, 3314: // I/O errors; the log is not available; undo failed.
		return meaning{ClassDisk, adviceDisk}
	case 701, 17300, 8645, 10928: // No memory, no workers.
		return meaning{ClassRetry, "the instance is short of memory or of threads"}
	case 1205: // Deadlock.
		return meaning{ClassRetry, adviceAgain}
	case 6005: // SHUTDOWN is in progress.
		return meaning{ClassUnavailable, "the instance is being shut down"}
	case 18456, 18452, 18470, 18486, 18487, 18488, 4060, 4064:
		return meaning{ClassLogin, adviceLogin}
	case 18401, 18451: // The server is in script upgrade; only administrators may connect.
		return meaning{ClassRetry, "the instance has only just started, or is being upgraded"}
	case 229, 230, 262, 297, 300, 916, 3704, 5011, 15151, 15247: // A right is missing.
		return meaning{ClassLogin, "run deploy/sqlserver/create-login.sql for this mode: the login lacks a right"}
	default:
		return meaning{}
	}
}
