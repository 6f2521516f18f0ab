package sqlservertest

import (
	"strings"
	"time"
)

// version is @@VERSION. Its first word says that this is no SQL Server.
const version = "Fake of Microsoft SQL Server 2022 (RTM) - 16.0.4000.1 (X64)\n\tmade from documents, for tests"

// function is the value of a function or of a @@variable.
func (s *session) function(name string, args []any) (any, error) {
	arg := func(n int) any {
		if n < len(args) {
			return args[n]
		}
		return nil
	}
	switch strings.ToUpper(name) {
	case "@@SERVERNAME":
		return s.instance.Name(), nil
	case "@@VERSION":
		return version, nil
	case "@@TRANCOUNT":
		return int64(s.depth), nil
	case "@@SPID":
		return int64(51), nil
	case "DB_NAME":
		return s.databaseName(arg(0)), nil
	case "DB_ID":
		return s.databaseID(arg(0)), nil
	case "IS_SRVROLEMEMBER":
		if s.instance.knobs.hidesMirrors() {
			return int64(0), nil
		}
		return int64(1), nil
	case "SERVERPROPERTY":
		return s.property(textOf(arg(0))), nil
	case "SUSER_NAME", "SUSER_SNAME", "ORIGINAL_LOGIN":
		return s.login.User, nil
	case "GETDATE", "GETUTCDATE", "SYSUTCDATETIME", "SYSDATETIME":
		return time.Now().UTC(), nil
	}
	return textFunction(name, args)
}

func textFunction(name string, args []any) (any, error) {
	if len(args) == 0 {
		return nil, sqlError(195, 15, "'%s' is not a recognized built-in function name of the fake.", name)
	}
	first := args[0]
	switch strings.ToUpper(name) {
	case "ISNULL", "COALESCE":
		for _, a := range args {
			if a != nil {
				return a, nil
			}
		}
		return nil, nil
	case "CAST":
		kind, _ := args[len(args)-1].(string)
		return fit(kindOf(kind), first)
	}
	if first == nil {
		return nil, nil
	}
	text := textOf(first)
	switch strings.ToUpper(name) {
	case "RTRIM":
		return strings.TrimRight(text, " "), nil
	case "LTRIM":
		return strings.TrimLeft(text, " "), nil
	case "UPPER":
		return strings.ToUpper(text), nil
	case "LOWER":
		return strings.ToLower(text), nil
	case "LEN":
		return int64(len([]rune(strings.TrimRight(text, " ")))), nil
	}
	return nil, sqlError(195, 15, "'%s' is not a recognized built-in function name of the fake.", name)
}

func (s *session) databaseName(id any) any {
	if id == nil {
		return s.database
	}
	for _, d := range s.instance.databases() {
		if compare(int64(d.ID), id) == 0 {
			return d.Name
		}
	}
	return nil
}

func (s *session) databaseID(name any) any {
	if name == nil {
		name = s.database
	}
	for _, d := range s.instance.databases() {
		if strings.EqualFold(d.Name, textOf(name)) {
			return int64(d.ID)
		}
	}
	return nil
}

func (s *session) property(name string) any {
	switch strings.ToLower(name) {
	case "servername", "machinename", "instancename":
		return s.instance.Name()
	case "productversion":
		return "16.0.4000.1"
	case "edition":
		return "Enterprise Edition (64-bit)"
	case "ishadrenabled":
		return "1"
	}
	return nil
}
