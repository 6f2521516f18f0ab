package sqlservertest

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// scope is where an expression's names lead: the columns of the rows that are looked at, the session's variables, the
// functions.
type scope struct {
	columns []boundColumn
	row     []any
	vars    map[string]any
	call    func(name string, args []any) (any, error)
}

type boundColumn struct {
	table string // the alias that its rows have in the statement
	tds.Column
}

func (s *scope) find(e *expression) (int, error) {
	for i, c := range s.columns {
		if strings.EqualFold(c.Name, e.name) && (e.table == "" || strings.EqualFold(c.table, e.table)) {
			return i, nil
		}
	}
	return 0, sqlError(errorColumn, 16, "Invalid column name '%s'.", e.name)
}

// check finds names that lead nowhere, so that they fail even where there are no rows.
func (s *scope) check(e *expression) error {
	var failed error
	e.walk(func(e *expression) {
		if failed != nil {
			return
		}
		switch e.op {
		case opColumn:
			_, failed = s.find(e)
		case opVariable:
			if _, ok := s.vars[strings.ToLower(e.name)]; !ok && !strings.HasPrefix(e.name, "@@") {
				failed = sqlError(errorVariable, 15, "Must declare the scalar variable \"%s\".", e.name)
			}
		}
	})
	return failed
}

// evaluate is an expression's value: nil, int64, string, bool, float64 or time.Time. Conditions are three-valued, with
// nil for unknown.
func (s *scope) evaluate(e *expression) (any, error) {
	switch e.op {
	case opLiteral:
		return e.value, nil
	case opColumn:
		i, err := s.find(e)
		if err != nil {
			return nil, err
		}
		return s.row[i], nil
	case opVariable:
		if v, ok := s.vars[strings.ToLower(e.name)]; ok {
			return v, nil
		}
		return s.call(e.name, nil)
	case opAnd, opOr:
		return s.logic(e)
	}
	args := make([]any, len(e.args))
	for i, a := range e.args {
		v, err := s.evaluate(a)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	switch e.op {
	case opCall:
		return s.call(e.name, args)
	case opIsNull:
		return args[0] == nil, nil
	case opIn:
		return in(args), nil
	case opNot:
		if b, ok := args[0].(bool); ok {
			return !b, nil
		}
		return nil, nil
	case opNegative:
		return arithmetic("-", int64(0), args[0])
	}
	if args[0] == nil || args[1] == nil {
		return nil, nil
	}
	if e.op == opLike {
		return like(textOf(args[0]), textOf(args[1])), nil
	}
	if order, ok := comparison(e.op, compare(args[0], args[1])); ok {
		return order, nil
	}
	return arithmetic(e.op, args[0], args[1])
}

func comparison(op string, order int) (is, ok bool) {
	switch op {
	case "=":
		return order == 0, true
	case "<>":
		return order != 0, true
	case "<":
		return order < 0, true
	case ">":
		return order > 0, true
	case "<=":
		return order <= 0, true
	case ">=":
		return order >= 0, true
	}
	return false, false
}

func (s *scope) logic(e *expression) (any, error) {
	unknown := false
	decides := e.op == opOr
	for _, a := range e.args {
		v, err := s.evaluate(a)
		if err != nil {
			return nil, err
		}
		switch b, ok := v.(bool); {
		case !ok:
			unknown = true
		case b == decides:
			return decides, nil
		}
	}
	if unknown {
		return nil, nil
	}
	return !decides, nil
}

func in(args []any) any {
	if args[0] == nil {
		return nil
	}
	for _, a := range args[1:] {
		if a != nil && compare(args[0], a) == 0 {
			return true
		}
	}
	return false
}

// compare is the order of two values: numbers by their value, everything else as text without regard to case and to
// blanks at its end, as the server's collation has it.
func compare(a, b any) int {
	x, okX := integer(a)
	y, okY := integer(b)
	if okX && okY {
		return cmp.Compare(x, y)
	}
	folded := func(v any) string { return strings.ToUpper(strings.TrimRight(textOf(v), " ")) }
	return cmp.Compare(folded(a), folded(b))
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

func textOf(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.Format("2006-01-02T15:04:05.000")
	case bool:
		if v {
			return "1"
		}
		return "0"
	case string:
		return v
	}
	return fmt.Sprint(v)
}

func arithmetic(op string, a, b any) (any, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	_, leftText := a.(string)
	_, rightText := b.(string)
	if op == "+" && leftText && rightText {
		return textOf(a) + textOf(b), nil
	}
	x, okX := integer(a)
	y, okY := integer(b)
	if !okX || !okY {
		return nil, noConversion(textOf(a)+" "+op+" "+textOf(b), "int")
	}
	switch op {
	case "+":
		if y > 0 && x > math.MaxInt64-y || y < 0 && x < math.MinInt64-y {
			return nil, sqlError(errorArithmetic, 16, "Arithmetic overflow error converting expression to data type bigint.")
		}
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	}
	if y == 0 {
		return nil, sqlError(8134, 16, "Divide by zero error encountered.")
	}
	return x / y, nil
}

func noConversion(value, kind string) error {
	return sqlError(errorConversion, 16, "Conversion failed when converting the value '%s' to data type %s.",
		short(value), kind)
}

// fit turns a value into one of a column's kind.
func fit(kind tds.Kind, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch kind {
	case tds.Int, tds.BigInt, tds.SmallInt, tds.TinyInt:
		n, ok := integer(v)
		if !ok {
			return nil, noConversion(textOf(v), "int")
		}
		return n, nil
	case tds.Bit:
		n, ok := integer(v)
		if !ok {
			return nil, noConversion(textOf(v), "bit")
		}
		return n != 0, nil
	case tds.Text, tds.Numeric, tds.GUID:
		return textOf(v), nil
	case tds.DateTime, tds.Float:
	}
	return v, nil
}
