package sqlservertest

import (
	"fmt"
	"strings"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// sqlError is an error as SQL Server reports it.
func sqlError(number int32, class uint8, format string, args ...any) *model.Error {
	return &model.Error{Number: number, Class: class, State: 1, Message: fmt.Sprintf(format, args...)}
}

// The numbers of errors that this package makes itself.
const (
	errorSyntax      = 102
	errorColumn      = 207
	errorObject      = 208
	errorDatabase    = 911
	errorConversion  = 245
	errorArithmetic  = 8115
	errorVariable    = 137
	errorExists      = 2714
	errorColumnCount = 213
	errorProcedure   = 2812
)

// statement is one statement of a batch.
type statement any

// parser reads statements. It gives up by panicking with a *model.Error, which parse turns into its result: every rule
// can then be written as if nothing failed.
type parser struct {
	sql    string
	tokens []token
	at     int
	depth  int
}

// deepest bounds how far expressions nest.
const deepest = 200

// parse reads a batch.
func parse(sql string) (batch []statement, failed error) {
	tokens, err := lex(sql)
	if err != nil {
		return nil, err
	}
	p := &parser{sql: sql, tokens: tokens}
	defer func() {
		switch why := recover().(type) {
		case nil:
		case *model.Error:
			batch, failed = nil, why
		default:
			panic(why)
		}
	}()
	for {
		for p.accept(";") {
			continue
		}
		if p.peek().lexeme == lexEnd {
			return batch, nil
		}
		batch = append(batch, p.statement())
	}
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.lexeme != lexEnd {
		p.at++
	}
	return t
}

// accept takes the words if all of them come next.
func (p *parser) accept(words ...string) bool {
	for i, word := range words {
		if p.at+i >= len(p.tokens) || !p.tokens[p.at+i].is(word) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *parser) expect(words ...string) {
	for _, word := range words {
		if !p.accept(word) {
			p.fail()
		}
	}
}

// fail gives up at the next token. The message has the whole statement, so that a typo of a program is found.
func (p *parser) fail() {
	t := p.peek()
	near := t.text
	if t.lexeme == lexEnd {
		near = "the end"
	}
	panic(sqlError(errorSyntax, 15, "Incorrect syntax near '%s'. The fake does not understand: %s",
		short(near), short(p.sql)))
}

func (p *parser) deeper() {
	if p.depth++; p.depth > deepest {
		panic(sqlError(191, 15, "Some part of your SQL statement is nested too deeply."))
	}
}

func (p *parser) shallower() { p.depth-- }

// name takes an identifier.
func (p *parser) name() string {
	t := p.peek()
	if t.lexeme != lexName && (t.lexeme != lexWord || reserved(t.text)) {
		p.fail()
	}
	return p.take().text
}

// text takes a string.
func (p *parser) text() string {
	if p.peek().lexeme != lexText {
		p.fail()
	}
	return p.take().text
}

func (p *parser) number() string {
	if p.peek().lexeme != lexNumber {
		p.fail()
	}
	return p.take().text
}

// object is the name of a table: database.schema.name, of which the first two may be missing.
type object struct{ database, schema, name string }

func (o object) String() string {
	s := o.name
	if o.schema != "" {
		s = o.schema + "." + s
	}
	if o.database != "" {
		s = o.database + "." + s
	}
	return s
}

func (p *parser) object() object {
	var o object
	o.name = p.name()
	for p.accept(".") {
		o.database, o.schema = o.schema, o.name
		if p.peek().is(".") {
			o.name = ""
			continue
		}
		o.name = p.name()
	}
	return o
}

// columnType takes a type with its size and returns its name in lower case.
func (p *parser) columnType() string {
	kind := strings.ToLower(p.name())
	if p.accept("(") {
		for !p.accept(")") {
			if p.take().lexeme == lexEnd {
				p.fail()
			}
		}
	}
	return kind
}

// parenthesis takes everything up to the closing one.
func (p *parser) parenthesis() {
	p.expect("(")
	for depth := 1; depth > 0; {
		t := p.take()
		switch {
		case t.lexeme == lexEnd:
			p.fail()
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
	}
}
