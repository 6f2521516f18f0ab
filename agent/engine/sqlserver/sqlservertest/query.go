package sqlservertest

import (
	"context"
	"sort"
	"strings"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// query is a SELECT.
type query struct {
	top    *expression
	items  []item
	from   []source
	where  *expression
	order  *expression
	falls  bool // ORDER BY ... DESC
	counts bool // has COUNT and the like: it gives one row
}

// item is one column of the result; without an expression it is all columns, of one source if table is set.
type item struct {
	*expression
	table string
	alias string
}

// source is one table of FROM.
type source struct {
	table object
	alias string
	left  bool // LEFT JOIN
	on    *expression
}

// table is what a source gives.
type table struct {
	columns []tds.Column
	rows    [][]any
}

func (p *parser) query() statement {
	q := query{}
	if p.accept("TOP") {
		q.top = p.factor()
	}
	for q.items = append(q.items, p.item()); p.accept(","); {
		q.items = append(q.items, p.item())
	}
	if p.accept("FROM") {
		q.from = append(q.from, p.source())
		for p.joins(&q) {
			continue
		}
	}
	if p.accept("WHERE") {
		q.where = p.expression()
	}
	if p.accept("ORDER", "BY") {
		q.order = p.expression()
		q.falls = p.accept("DESC")
		if !q.falls {
			p.accept("ASC")
		}
	}
	for _, i := range q.items {
		if i.expression != nil {
			i.walk(func(e *expression) { q.counts = q.counts || aggregate(e) })
		}
	}
	return q
}

func (p *parser) item() item {
	if p.accept("*") {
		return item{}
	}
	if t := p.peek(); (t.lexeme == lexWord && !reserved(t.text) || t.lexeme == lexName) &&
		p.tokens[p.at+1].is(".") && p.tokens[p.at+2].is("*") {
		p.at += 3
		return item{table: t.text}
	}
	i := item{expression: p.expression()}
	i.alias = i.name
	if i.op != opColumn {
		i.alias = ""
	}
	if p.accept("AS") {
		if p.peek().lexeme == lexText {
			i.alias = p.text()
		} else {
			i.alias = p.name()
		}
	} else if t := p.peek(); t.lexeme == lexName || t.lexeme == lexWord && !p.begins(t.text) {
		i.alias = p.name()
	}
	return i
}

// begins says that a word without brackets is no alias.
func (p *parser) begins(word string) bool {
	return reserved(word) || strings.EqualFold(word, "GO")
}

func (p *parser) source() source {
	s := source{table: p.object()}
	s.alias = s.table.name
	if p.accept("AS") {
		s.alias = p.name()
	} else if t := p.peek(); t.lexeme == lexName || t.lexeme == lexWord && !p.begins(t.text) {
		s.alias = p.name()
	}
	return s
}

func (p *parser) joins(q *query) bool {
	left := p.accept("LEFT")
	if left {
		p.accept("OUTER")
	} else {
		p.accept("INNER")
	}
	if !p.accept("JOIN") {
		if left {
			p.fail()
		}
		return false
	}
	s := p.source()
	p.expect("ON")
	s.left, s.on = left, p.expression()
	q.from = append(q.from, s)
	return true
}

func aggregate(e *expression) bool {
	if e.op == opCountAll {
		return true
	}
	if e.op == opCall {
		switch e.name {
		case "COUNT", "MAX", "MIN", "SUM":
			return true
		}
	}
	return false
}

// selectRows runs a query.
func (s *session) selectRows(ctx context.Context, q query) (tds.Result, error) {
	at := s.scope()
	rows, err := s.join(ctx, q, at)
	if err != nil {
		return tds.Result{}, err
	}
	items, err := expand(q.items, at)
	if err != nil {
		return tds.Result{}, err
	}
	if err := filter(&rows, q.where, at); err != nil {
		return tds.Result{}, err
	}
	if err := order(rows, q, at); err != nil {
		return tds.Result{}, err
	}
	if q.top != nil {
		n, err := at.evaluate(q.top)
		if err != nil {
			return tds.Result{}, err
		}
		most, _ := integer(n)
		rows = rows[:min(len(rows), int(max(most, 0)))]
	}
	var r tds.Result
	for _, i := range items {
		r.Columns = append(r.Columns, tds.Column{Name: i.alias, Kind: at.kind(i.expression)})
	}
	if q.counts {
		row, err := summary(items, rows, at)
		r.Rows = [][]any{row}
		if err != nil {
			return tds.Result{}, err
		}
		return r, fitAll(&r)
	}
	for _, row := range rows {
		at.row = row
		line := make([]any, len(items))
		for n, i := range items {
			if line[n], err = at.evaluate(i.expression); err != nil {
				return tds.Result{}, err
			}
		}
		r.Rows = append(r.Rows, line)
	}
	return r, fitAll(&r)
}

// join puts the rows of all sources together and fills in the scope's columns.
func (s *session) join(ctx context.Context, q query, at *scope) ([][]any, error) {
	rows := [][]any{{}}
	for _, from := range q.from {
		t, err := s.table(ctx, from.table)
		if err != nil {
			return nil, err
		}
		for _, c := range t.columns {
			at.columns = append(at.columns, boundColumn{from.alias, c})
		}
		if from.on != nil {
			if err := at.check(from.on); err != nil {
				return nil, err
			}
		}
		var joined [][]any
		for _, left := range rows {
			partners := 0
			for _, right := range t.rows {
				at.row = append(append([]any(nil), left...), right...)
				ok, err := at.holds(from.on)
				if err != nil {
					return nil, err
				}
				if ok {
					joined = append(joined, at.row)
					partners++
				}
			}
			if from.left && partners == 0 {
				joined = append(joined, append(append([]any(nil), left...), make([]any, len(t.columns))...))
			}
		}
		rows = joined
	}
	return rows, nil
}

// holds says whether a condition is true; no condition is.
func (s *scope) holds(e *expression) (bool, error) {
	if e == nil {
		return true, nil
	}
	v, err := s.evaluate(e)
	ok, _ := v.(bool)
	return ok, err
}

func filter(rows *[][]any, where *expression, at *scope) error {
	if where == nil {
		return nil
	}
	if err := at.check(where); err != nil {
		return err
	}
	var kept [][]any
	for _, row := range *rows {
		at.row = row
		ok, err := at.holds(where)
		if err != nil {
			return err
		}
		if ok {
			kept = append(kept, row)
		}
	}
	*rows = kept
	return nil
}

func order(rows [][]any, q query, at *scope) error {
	if q.order == nil {
		return nil
	}
	// A number stands for the column of the result that it counts to.
	by := q.order
	if n, ok := by.value.(int64); ok && n >= 1 && int(n) <= len(q.items) && q.items[n-1].expression != nil {
		by = q.items[n-1].expression
	}
	if err := at.check(by); err != nil {
		return err
	}
	keys := map[*any]any{}
	for _, row := range rows {
		if len(row) == 0 {
			return nil
		}
		at.row = row
		v, err := at.evaluate(by)
		if err != nil {
			return err
		}
		keys[&row[0]] = v
	}
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := keys[&rows[i][0]], keys[&rows[j][0]]
		if q.falls {
			a, b = b, a
		}
		switch {
		case a == nil || b == nil:
			return a == nil && b != nil
		default:
			return compare(a, b) < 0
		}
	})
	return nil
}

// expand replaces * by the columns, and finds names that lead nowhere.
func expand(items []item, at *scope) ([]item, error) {
	var all []item
	for _, i := range items {
		if i.expression != nil {
			if err := at.check(i.expression); err != nil {
				return nil, err
			}
			all = append(all, i)
			continue
		}
		for _, c := range at.columns {
			if i.table == "" || strings.EqualFold(i.table, c.table) {
				all = append(all, item{expression: &expression{op: opColumn, name: c.Name, table: c.table}, alias: c.Name})
			}
		}
	}
	return all, nil
}

// summary is the one row of a query that counts.
func summary(items []item, rows [][]any, at *scope) ([]any, error) {
	line := make([]any, len(items))
	for n, i := range items {
		switch {
		case i.op == opCountAll:
			line[n] = int64(len(rows))
		case i.op == opCall && len(i.args) == 1 && aggregate(i.expression):
			var values []any
			for _, row := range rows {
				at.row = row
				v, err := at.evaluate(i.args[0])
				if err != nil {
					return nil, err
				}
				if v != nil {
					values = append(values, v)
				}
			}
			v, err := aggregated(i.name, values)
			if err != nil {
				return nil, err
			}
			line[n] = v
		default:
			return nil, sqlError(errorSyntax, 15, "The fake knows COUNT, MAX, MIN and SUM only alone, and not with GROUP BY.")
		}
	}
	return line, nil
}

func aggregated(function string, values []any) (any, error) {
	if function == "COUNT" {
		return int64(len(values)), nil
	}
	var result any
	for _, v := range values {
		switch {
		case result == nil:
			result = v
		case function == "SUM":
			sum, err := arithmetic("+", result, v)
			if err != nil {
				return nil, err
			}
			result = sum
		case function == "MAX" && compare(v, result) > 0, function == "MIN" && compare(v, result) < 0:
			result = v
		}
	}
	return result, nil
}

// kind is the type that an expression has as a column.
func (s *scope) kind(e *expression) tds.Kind {
	switch e.op {
	case opColumn:
		if i, err := s.find(e); err == nil {
			return s.columns[i].Kind
		}
	case opCountAll:
		return tds.Int
	case opLiteral:
		if n, ok := e.value.(int64); ok {
			if n == int64(int32(n)) {
				return tds.Int
			}
			return tds.BigInt
		}
	case opVariable:
		if _, ok := s.vars[strings.ToLower(e.name)].(int64); ok {
			return tds.BigInt
		}
		if strings.EqualFold(e.name, "@@TRANCOUNT") || strings.EqualFold(e.name, "@@SPID") {
			return tds.Int
		}
	case opCall:
		return s.callKind(e)
	case "+", "-", "*", "/":
		k := s.kind(e.args[0])
		if k != tds.Text {
			return max(k, tds.Int)
		}
		return s.kind(e.args[1])
	case opNegative:
		return s.kind(e.args[0])
	}
	return tds.Text
}

func (s *scope) callKind(e *expression) tds.Kind {
	switch e.name {
	case "COUNT", "DB_ID", "IS_SRVROLEMEMBER":
		return tds.Int
	case "MAX", "MIN", "SUM", "ISNULL", "COALESCE":
		return s.kind(e.args[0])
	case "GETDATE", "GETUTCDATE", "SYSUTCDATETIME", "SYSDATETIME":
		return tds.DateTime
	case "LEN":
		return tds.Int
	case "CAST":
		if name, ok := e.args[1].value.(string); ok {
			return kindOf(name)
		}
	}
	return tds.Text
}

func fitAll(r *tds.Result) error {
	for _, row := range r.Rows {
		for i, c := range r.Columns {
			v, err := fit(c.Kind, row[i])
			if err != nil {
				return err
			}
			row[i] = v
		}
	}
	return nil
}
