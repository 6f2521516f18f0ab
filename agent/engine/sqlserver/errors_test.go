package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
)

func TestErrorClasses(t *testing.T) {
	for class, numbers := range map[Class][]int32{
		ClassRetry:        {1404, 1421, 1428, 1438, 952, 41104, 41113, 41131, 1205},
		ClassWrongHost:    {1470, 41140},
		ClassPrecondition: {1422, 1426, 1431, 1447, 1455, 1456, 1477, 41142, 41134},
		ClassHuman:        {1406, 1430, 1457, 1459, 1462, 1453, 1454, 1427, 1429, 1433, 1468, 47116, 41144},
		ClassNotMirrored:  {1416, 1451},
		ClassUnavailable:  {954, 955, 956, 976, 983, 988, 19407, 927},
		ClassDisk:         {823, 824, 9002, 1105},
		ClassLogin:        {18456, 4060, 229, 300},
		ClassDone:         {1439, 1446, 41122, 47119},
		ClassOther:        {102, 207, 50000, 0},
	} {
		for _, number := range numbers {
			cause := mssql.Error{Number: number, Message: "text"}
			err := fmt.Errorf("promote: %w", newError(context.Background(), "ALTER", cause))
			if ClassOf(err) != class || NumberOf(err) != number {
				t.Errorf("%d is %v (%d), want %v", number, ClassOf(err), NumberOf(err), class)
			}
			if text := err.Error(); class != ClassOther && class != ClassDone && !strings.HasSuffix(text, ")") {
				t.Errorf("%d says nothing about what to do: %s", number, text)
			}
		}
	}
}

// No number may mean two things: the parts of the table are looked up one after the other.
func TestOneTable(t *testing.T) {
	for number := range int32(60000) {
		found := 0
		for _, part := range []func(int32) meaning{mirroringErrors, witnessErrors, groupErrors, databaseErrors} {
			if part(number).class != ClassOther {
				found++
			}
		}
		if found > 1 {
			t.Errorf("%d is in %d parts of the table", number, found)
		}
	}
}

func TestErrorOfBatch(t *testing.T) {
	first := mssql.Error{Number: 41142, Message: "not synchronized"}
	last := mssql.Error{Number: 3013, Message: "terminated", All: []mssql.Error{first, {Number: 3013}}}
	err := newError(context.Background(), "FAILOVER", last)
	if NumberOf(err) != 41142 || ClassOf(err) != ClassPrecondition {
		t.Errorf("%v: %d, %v", err, NumberOf(err), ClassOf(err))
	}
}

func TestErrorOfDeadline(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("why"))
	err := newError(ctx, "SELECT", errors.New("i/o timeout"))
	if !errors.Is(err, context.Canceled) || ClassOf(err) != ClassUnreachable {
		t.Errorf("%v", err)
	}
	if err := newError(ctx, "SELECT", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
