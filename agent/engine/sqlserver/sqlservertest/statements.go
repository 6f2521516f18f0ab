package sqlservertest

import (
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// The statements that are understood.
type (
	// nothing is a statement that a real server obeys and that changes nothing here.
	nothing struct{}

	useDatabase struct{ database string }
	beginWork   struct{}
	commitWork  struct{}
	rollback    struct{}
	printText   struct{ text string }
	waitFor     struct{ delay time.Duration }
	shutdown    struct{ now bool }
	declare     struct {
		name  string
		value *expression
	}

	createDatabase struct{ name string }
	createTable    struct {
		table   object
		columns []column
	}

	insert struct {
		table   object
		columns []string
		rows    [][]*expression
	}
	update struct {
		table object
		set   []assignment
		where string // as it was written: rows keep it
	}
	deleteRows struct {
		table object
		where string
	}

	alterMirroring struct {
		database string
		verb     model.Verb
		argument string
	}
	alterHadr     struct{ database, verb string }
	alterEndpoint struct{ started bool }
	alterGroup    struct{ group, verb, argument string }
	createGroup   struct {
		group     string
		options   map[string]string
		databases []string
		replicas  []replicaSpec
	}
	execute struct {
		procedure string
		arguments map[string]*expression
	}
)

type column struct {
	Name string
	Type string
}

// assignment is one column = expression; the expression is kept as it was written.
type assignment struct {
	Column string
	To     string
}

type replicaSpec struct {
	server  string
	options map[string]string
}

func (p *parser) statement() statement {
	switch {
	case p.accept("SELECT"):
		return p.query()
	case p.accept("INSERT"):
		return p.insert()
	case p.accept("UPDATE"):
		return p.update()
	case p.accept("DELETE"):
		p.accept("FROM")
		return deleteRows{p.object(), p.where()}
	case p.accept("CREATE"):
		return p.create()
	case p.accept("ALTER"):
		return p.alter()
	case p.accept("EXEC"), p.accept("EXECUTE"):
		return p.execute()
	case p.accept("RESTORE", "DATABASE"):
		database := p.name()
		p.expect("WITH", "RECOVERY")
		return alterMirroring{database: database, verb: model.Recover}
	case p.accept("BACKUP"):
		return p.skipTo("INIT", "FORMAT")
	case p.accept("GRANT"):
		return p.skipTo("")
	}
	return p.control()
}

// control takes the statements that are about the session.
func (p *parser) control() statement {
	switch {
	case p.accept("USE"):
		return useDatabase{p.name()}
	case p.accept("BEGIN"):
		p.transaction()
		return beginWork{}
	case p.accept("COMMIT"):
		p.transaction()
		return commitWork{}
	case p.accept("ROLLBACK"):
		p.transaction()
		return rollback{}
	case p.accept("PRINT"):
		return printText{p.text()}
	case p.accept("WAITFOR", "DELAY"):
		return waitFor{p.delay()}
	case p.accept("SHUTDOWN"):
		return shutdown{p.accept("WITH", "NOWAIT")}
	case p.accept("DECLARE"):
		d := declare{name: p.take().text}
		p.columnType()
		if p.accept("=") {
			d.value = p.expression()
		}
		return d
	case p.accept("SET"):
		return p.set()
	}
	p.fail()
	return nil
}

func (p *parser) transaction() {
	if !p.accept("TRANSACTION") && !p.accept("TRAN") {
		p.accept("WORK")
	}
}

// set takes SET NOCOUNT ON and its like, of which drivers send several.
func (p *parser) set() statement {
	if p.accept("TRANSACTION", "ISOLATION", "LEVEL") {
		p.name()
		if p.peek().lexeme == lexWord && !reserved(p.peek().text) {
			p.name()
		}
		return nothing{}
	}
	for p.name(); p.accept(","); {
		p.name()
	}
	if t := p.take(); t.lexeme == lexEnd || t.is(";") {
		p.fail()
	}
	return nothing{}
}

// skipTo takes the rest of the batch, or up to one of the words.
func (p *parser) skipTo(words ...string) statement {
	for {
		t := p.take()
		if t.lexeme == lexEnd || t.is(";") {
			return nothing{}
		}
		if slices.ContainsFunc(words, t.is) {
			return nothing{}
		}
	}
}

func (p *parser) delay() time.Duration {
	parts := strings.Split(p.text(), ":")
	var total time.Duration
	for _, part := range parts {
		d, err := time.ParseDuration(part + "s")
		if err != nil {
			p.fail()
		}
		total = 60*total + d
	}
	return total
}

func (p *parser) create() statement {
	switch {
	case p.accept("DATABASE"):
		return createDatabase{p.name()}
	case p.accept("TABLE"):
		return p.createTable()
	case p.accept("AVAILABILITY", "GROUP"):
		return p.createGroup()
	case p.accept("SCHEMA"):
		p.name()
		return nothing{}
	}
	p.fail()
	return nil
}

func (p *parser) createTable() statement {
	c := createTable{table: p.object()}
	p.expect("(")
	for {
		c.columns = append(c.columns, column{p.name(), p.columnType()})
		for !p.peek().is(",") && !p.peek().is(")") {
			// NOT NULL, PRIMARY KEY and the like are not enforced.
			if p.peek().is("(") {
				p.parenthesis()
			} else if p.take().lexeme == lexEnd {
				p.fail()
			}
		}
		if p.accept(")") {
			return c
		}
		p.expect(",")
	}
}

func (p *parser) insert() statement {
	p.accept("INTO")
	i := insert{table: p.object()}
	if p.accept("(") {
		for i.columns = append(i.columns, p.name()); p.accept(","); {
			i.columns = append(i.columns, p.name())
		}
		p.expect(")")
	}
	p.expect("VALUES")
	for {
		p.expect("(")
		i.rows = append(i.rows, p.list())
		p.expect(")")
		if !p.accept(",") {
			return i
		}
	}
}

func (p *parser) update() statement {
	u := update{table: p.object()}
	p.expect("SET")
	for {
		a := assignment{Column: p.name()}
		p.expect("=")
		a.To = p.written(func() { p.expression() })
		u.set = append(u.set, a)
		if !p.accept(",") {
			u.where = p.where()
			return u
		}
	}
}

func (p *parser) where() string {
	if !p.accept("WHERE") {
		return ""
	}
	return p.written(func() { p.expression() })
}

// written is the text that a rule takes.
func (p *parser) written(rule func()) string {
	from := p.peek().at
	rule()
	return strings.TrimSpace(p.sql[from:p.peek().at])
}

func (p *parser) execute() statement {
	o := p.object()
	e := execute{procedure: strings.ToLower(o.name), arguments: map[string]*expression{}}
	for p.peek().lexeme == lexVariable {
		name := strings.ToLower(p.take().text)
		p.expect("=")
		e.arguments[name] = p.expression()
		if !p.accept(",") {
			break
		}
	}
	return e
}
