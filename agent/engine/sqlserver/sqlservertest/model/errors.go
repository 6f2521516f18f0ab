package model

import (
	"errors"
	"fmt"
)

// ErrEnded says that the client's session ended with the role of its database: what became of the commit in flight is
// not known to the client.
var ErrEnded = errors.New("the session has ended; whether the transaction was committed is not known")

// fail is a user's error with SQL Server's text, as far as the documents give it.
func fail(number int32, format string, args ...any) *Error {
	return &Error{Number: number, Class: 16, State: 1, Message: fmt.Sprintf(format, args...)}
}

func errDown() *Error {
	return &Error{Number: 6005, Class: 14, State: 1, Message: "SHUTDOWN is in progress."}
}

func errNoDatabase(db string) *Error {
	return fail(911, "Database '%s' does not exist. Make sure that the name is entered correctly.", db)
}

func errTransition(db string) *Error {
	return fail(952, "Database '%s' is in transition. Try the statement later.", db)
}

func errIsMirror(db string) *Error {
	return fail(954, "The database \"%s\" cannot be opened. It is acting as a mirror database.", db)
}

func errNoQuorum(db string) *Error {
	return fail(955, "Database %s is enabled for Database Mirroring, but the database lacks quorum: the database "+
		"cannot be opened. Check the partner and witness connections if configured.", db)
}

func errRestoring(db string) *Error {
	return fail(927, "Database '%s' cannot be opened. It is in the middle of a restore.", db)
}

func errSuspect(db string) *Error {
	return fail(926, "Database '%s' cannot be opened. It has been marked SUSPECT by recovery.", db)
}

func errLogFull(db string) *Error {
	e := fail(9002, "The transaction log for database '%s' is full due to 'DATABASE_MIRRORING'.", db)
	e.Class = 17
	return e
}

func errRead(db string) *Error {
	e := fail(823, "The operating system returned error 21 to SQL Server during a read of database '%s'.", db)
	e.Class = 24
	return e
}

func errNotMirrored(db string) *Error {
	return fail(1416, "Database \"%s\" is not configured for database mirroring.", db)
}

func errNotPrincipal(db string) *Error {
	return fail(1470, "The alter database for this partner config values may only be initiated on the current "+
		"principal server for database \"%s\".", db)
}

func errPartnerAway(db string) *Error {
	return fail(1447, "ALTER DATABASE \"%s\" command cannot be executed until both partner server instances are up, "+
		"running, and connected. Start the partner and reissue the command.", db)
}

func errNobody(db string) *Error {
	return fail(1431, "Neither the partner nor the witness server instance for database \"%s\" is available. Reissue "+
		"the command when at least one of the instances becomes available.", db)
}

func errTimedOut(db string) *Error {
	return fail(1421, "Communications to the remote server instance for database \"%s\" failed to complete before its "+
		"timeout. The ALTER DATABASE command may have not completed. Retry the command.", db)
}

func errNotSaid(format string, args ...any) *Error {
	return fail(1456, "The ALTER DATABASE command could not be sent to the remote server instance: "+format, args...)
}
