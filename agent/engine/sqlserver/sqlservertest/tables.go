package sqlservertest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// A table of the model is a list of texts. A row of one column, not NULL, is that text. Everything else that is done to
// a table is an entry that begins with a mark, and reading the table does it again, in order: so an UPDATE goes through
// the log like a row, and a mirror has it.

const mark = "\x01"

// entry is what follows the mark.
type entry struct {
	Insert []any        `json:",omitempty"`
	Set    []assignment `json:",omitempty"`
	Delete bool         `json:",omitempty"`
	Where  string       `json:",omitempty"`
}

// definitions is the table that has the columns of the others: a mirror must know them when it becomes principal.
const definitions = "sys.columns"

type definition struct {
	Table   string
	Columns []column
}

func (e entry) text() (string, error) {
	if len(e.Insert) == 1 {
		if s, ok := e.Insert[0].(string); ok && !strings.HasPrefix(s, mark) {
			return s, nil
		}
	}
	raw, err := json.Marshal(e)
	return mark + string(raw), err
}

func kindOf(columnType string) tds.Kind {
	switch columnType {
	case "int":
		return tds.Int
	case "bigint":
		return tds.BigInt
	case "smallint":
		return tds.SmallInt
	case "tinyint":
		return tds.TinyInt
	case "bit":
		return tds.Bit
	case "uniqueidentifier":
		return tds.GUID
	default:
		return tds.Text
	}
}

// place is a table's database and its name there; dbo is the schema of a name without one.
func (s *session) place(o object) (database, name string) {
	database, name = o.database, strings.ToLower(o.name)
	if database == "" {
		database = s.database
	}
	if o.schema != "" && !strings.EqualFold(o.schema, "dbo") {
		name = strings.ToLower(o.schema) + "." + name
	}
	return database, name
}

// columnsOf are the columns of a table; none if they are not known.
func (s *session) columnsOf(database, name string) ([]column, error) {
	rows, err := s.raw(database, definitions)
	var refused *model.Error
	if errors.As(err, &refused) && refused.Number == errorObject {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, text := range slices.Backward(rows) {
		var d definition
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return nil, err
		}
		if d.Table == name {
			return d.Columns, nil
		}
	}
	return nil, nil
}

// raw is what the log has of a table, with what the session's transaction has added.
func (s *session) raw(database, name string) ([]string, error) {
	rows, err := s.instance.model.Select(database, name)
	if err != nil {
		return nil, err
	}
	rows = slices.Clone(rows)
	for _, w := range s.pending {
		if strings.EqualFold(w.database, database) && w.row.Table == name {
			rows = append(rows, w.row.Value)
		}
	}
	return rows, nil
}

// userTable reads a table of a database.
func (s *session) userTable(o object) (table, error) {
	database, name := s.place(o)
	if e := s.instance.access(database, false); e != nil {
		return table{}, e
	}
	rows, err := s.raw(database, name)
	if err != nil {
		return table{}, s.named(err, o)
	}
	columns, err := s.columnsOf(database, name)
	if err != nil {
		return table{}, err
	}
	t := table{}
	for _, c := range columns {
		t.columns = append(t.columns, tds.Column{Name: c.Name, Kind: kindOf(c.Type)})
	}
	if columns == nil {
		t.columns = []tds.Column{{Name: "v", Kind: tds.Text}}
	}
	for _, text := range rows {
		if err := s.replay(&t, text); err != nil {
			return table{}, err
		}
	}
	return t, nil
}

// named gives an error about a missing table the name as the client wrote it.
func (s *session) named(err error, o object) error {
	var refused *model.Error
	if errors.As(err, &refused) && refused.Number == errorObject {
		return sqlError(errorObject, 16, "Invalid object name '%s'.", o)
	}
	return err
}

func (s *session) replay(t *table, text string) error {
	if !strings.HasPrefix(text, mark) {
		return t.add([]any{text})
	}
	decoder := json.NewDecoder(strings.NewReader(text[len(mark):]))
	decoder.UseNumber()
	var e entry
	if err := decoder.Decode(&e); err != nil {
		return err
	}
	if e.Insert != nil {
		for i, v := range e.Insert {
			if n, ok := v.(json.Number); ok {
				e.Insert[i] = number(n.String())
			}
		}
		return t.add(e.Insert)
	}
	return s.change(t, e)
}

func (t *table) add(row []any) error {
	if len(row) != len(t.columns) {
		return sqlError(errorColumnCount, 16, "A row has %d values, and the table %d columns.", len(row), len(t.columns))
	}
	for i, c := range t.columns {
		v, err := fit(c.Kind, row[i])
		if err != nil {
			return err
		}
		row[i] = v
	}
	t.rows = append(t.rows, row)
	return nil
}

// change does an UPDATE or a DELETE to the rows that are there.
func (s *session) change(t *table, e entry) error {
	_, err := s.changed(t, e)
	return err
}

// changed is change that says how many rows it met.
func (s *session) changed(t *table, e entry) (int64, error) {
	at := s.scope()
	for _, c := range t.columns {
		at.columns = append(at.columns, boundColumn{"", c})
	}
	where, err := parseExpression(e.Where)
	if err != nil {
		return 0, err
	}
	if where != nil {
		if err := at.check(where); err != nil {
			return 0, err
		}
	}
	var kept [][]any
	met := int64(0)
	for _, row := range t.rows {
		at.row = row
		ok, err := at.holds(where)
		if err != nil {
			return 0, err
		}
		if !ok {
			kept = append(kept, row)
			continue
		}
		met++
		if e.Delete {
			continue
		}
		next, err := at.assigned(e.Set)
		if err != nil {
			return 0, err
		}
		kept = append(kept, next)
	}
	t.rows = kept
	return met, nil
}

// assigned is the scope's row after SET.
func (s *scope) assigned(set []assignment) ([]any, error) {
	next := slices.Clone(s.row)
	for _, a := range set {
		i, err := s.find(&expression{op: opColumn, name: a.Column})
		if err != nil {
			return nil, err
		}
		to, err := parseExpression(a.To)
		if err != nil {
			return nil, err
		}
		if err := s.check(to); err != nil {
			return nil, err
		}
		v, err := s.evaluate(to)
		if err != nil {
			return nil, err
		}
		if next[i], err = fit(s.columns[i].Kind, v); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// parseExpression reads an expression that stands alone; nil for an empty text.
func parseExpression(text string) (*expression, error) {
	if text == "" {
		return nil, nil
	}
	batch, err := parse("SELECT " + text)
	if err != nil {
		return nil, err
	}
	q, ok := batch[0].(query)
	if len(batch) != 1 || !ok || len(q.items) != 1 || q.items[0].expression == nil {
		return nil, sqlError(errorSyntax, 15, "Incorrect syntax near '%s'.", short(text))
	}
	return q.items[0].expression, nil
}

func (s *session) createTable(ctx context.Context, c createTable) error {
	database, name := s.place(c.table)
	if e := s.instance.access(database, true); e != nil {
		return e
	}
	if err := s.instance.model.CreateTable(ctx, database, name); err != nil {
		return err
	}
	var refused *model.Error
	err := s.instance.model.CreateTable(ctx, database, definitions)
	if err != nil && (!errors.As(err, &refused) || refused.Number != errorExists) {
		return err
	}
	raw, err := json.Marshal(definition{name, c.columns})
	if err != nil {
		return err
	}
	return s.instance.model.Commit(ctx, database, []row{{Table: definitions, Value: string(raw)}})
}

func (s *session) insertRows(ctx context.Context, i insert) (int64, error) {
	database, name := s.place(i.table)
	if e := s.instance.access(database, true); e != nil {
		return 0, e
	}
	columns, err := s.columnsOf(database, name)
	if err != nil {
		return 0, err
	}
	if columns == nil {
		if _, err := s.instance.model.Select(database, name); err != nil {
			return 0, s.named(err, i.table)
		}
	}
	at := s.scope()
	var entries []entry
	for _, values := range i.rows {
		row, err := at.values(values, i.columns, columns)
		if err != nil {
			return 0, err
		}
		entries = append(entries, entry{Insert: row})
	}
	return int64(len(entries)), s.write(ctx, database, name, entries)
}

// values is one row of VALUES, in the order of the table's columns.
func (s *scope) values(of []*expression, names []string, columns []column) ([]any, error) {
	if columns == nil {
		columns = []column{{"v", "nvarchar"}}
	}
	if names == nil {
		for _, c := range columns {
			names = append(names, c.Name)
		}
	}
	if len(names) != len(of) {
		return nil, sqlError(errorColumnCount, 16,
			"Column name or number of supplied values does not match table definition.")
	}
	row := make([]any, len(columns))
	for n, e := range of {
		i := slices.IndexFunc(columns, func(c column) bool { return strings.EqualFold(c.Name, names[n]) })
		if i < 0 {
			return nil, sqlError(errorColumn, 16, "Invalid column name '%s'.", names[n])
		}
		if err := s.check(e); err != nil {
			return nil, err
		}
		v, err := s.evaluate(e)
		if err == nil {
			v, err = fit(kindOf(columns[i].Type), v)
		}
		if err != nil {
			return nil, err
		}
		if v != nil {
			v = textOf(v)
		}
		row[i] = v
	}
	return row, nil
}

// modify does an UPDATE or a DELETE. It is tried on what is there now, for its errors and its count.
func (s *session) modify(ctx context.Context, o object, e entry) (int64, error) {
	database, name := s.place(o)
	if e := s.instance.access(database, true); e != nil {
		return 0, e
	}
	t, err := s.userTable(o)
	if err != nil {
		return 0, err
	}
	met, err := s.changed(&t, e)
	if err != nil {
		return 0, err
	}
	return met, s.write(ctx, database, name, []entry{e})
}

// write commits entries, or keeps them for the commit of the session's transaction.
func (s *session) write(ctx context.Context, database, name string, entries []entry) error {
	var rows []row
	for _, e := range entries {
		text, err := e.text()
		if err != nil {
			return err
		}
		rows = append(rows, row{Table: name, Value: text})
	}
	if s.depth > 0 {
		for _, r := range rows {
			s.pending = append(s.pending, written{database, r})
		}
		return nil
	}
	return s.instance.model.Commit(ctx, database, rows)
}
