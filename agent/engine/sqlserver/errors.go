package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"
)

// Class says what an error asks for.
type Class int

// The classes of errors.
const (
	ClassOther        Class = iota // not in the table
	ClassRetry                     // the same statement may succeed in a moment
	ClassWrongHost                 // ask the partner
	ClassPrecondition              // something has to become true first, which may happen by itself
	ClassHuman                     // only a person can mend it
	ClassNotMirrored               // there is no session, or no group
	ClassUnavailable               // the database cannot be opened here
	ClassDisk                      // the disk does not take or give what it should
	ClassLogin                     // the login was refused
	ClassDone                      // it was so already
	ClassUnreachable               // no connection, or no answer
)

// String names the class.
func (c Class) String() string {
	switch c {
	case ClassRetry:
		return "retry"
	case ClassWrongHost:
		return "wrong host"
	case ClassPrecondition:
		return "precondition"
	case ClassHuman:
		return "human"
	case ClassNotMirrored:
		return "not mirrored"
	case ClassUnavailable:
		return "unavailable"
	case ClassDisk:
		return "disk"
	case ClassLogin:
		return "login"
	case ClassDone:
		return "done"
	case ClassUnreachable:
		return "unreachable"
	default:
		return "other"
	}
}

// Error is what SQL Server, or the way to it, answered to a statement.
type Error struct {
	What   string // the statement, shortened
	Number int32  // SQL Server's; 0 if it did not answer
	Class  Class
	Advice string // what to do; "" when the table has nothing to say
	cause  error
}

// Error names the statement, what came back and what to do.
func (e *Error) Error() string {
	text := e.What + ": "
	var server mssql.Error
	switch {
	case errors.As(e.cause, &server):
		text += fmt.Sprintf("SQL Server error %d: %s", server.Number, strings.TrimSpace(server.Message))
	case e.cause != nil:
		text += e.cause.Error()
	default:
		text += e.Class.String()
	}
	if e.Advice != "" {
		text += " (" + e.Advice + ")"
	}
	return text
}

// Unwrap is the driver's error.
func (e *Error) Unwrap() error { return e.cause }

// ClassOf is the class of an error that a Client returned; ClassOther for any other.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ClassOther
}

// NumberOf is SQL Server's number in an error that a Client returned; 0 if it has none.
func NumberOf(err error) int32 {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Number
	}
	return 0
}

// newError puts what came back into the table's words. ctx is the call's: a driver's error that is only the noise of
// a connection cut at the deadline becomes that deadline.
func newError(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{What: what, cause: err}
	if server, ok := errors.AsType[mssql.Error](err); ok {
		e.Number = server.Number
		found := lookUp(server.Number)
		// The error that names the situation is not always the last one of a batch.
		for _, one := range server.All {
			if found.class == ClassOther {
				if f := lookUp(one.Number); f.class != ClassOther {
					found, e.Number = f, one.Number
				}
			}
		}
		e.Class, e.Advice = found.class, found.advice
		return e
	}
	e.Class = ClassUnreachable
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		e.cause = fmt.Errorf("%w: %w", cause, err)
	}
	return e
}

// short is a statement's text as an error shows it.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 100
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// Words on what to do that several errors share.
const (
	adviceAgain     = "it is tried again"
	adviceOther     = "the partner has the other role; look at both sides with witnessctl pair show"
	adviceConnect   = "see that both mirroring endpoints are started and reach each other"
	adviceRebuild   = "take mirroring off and set it up again from a new backup"
	adviceErrorLog  = "read SQL Server's error log on both hosts"
	adviceLogBackup = "back the log up, or give it room; while mirroring is suspended it cannot be reused"
	adviceDisk      = "look at the disk and at SQL Server's error log; run DBCC CHECKDB"
	adviceRole      = "wait until this host has the role, or connect to the other one"
	adviceLogin     = "check user and password_file, and that deploy/sqlserver/create-login.sql was run on this instance"
)
