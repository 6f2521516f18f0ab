package sqlservertest

import (
	"strconv"
	"strings"
	"unicode"
)

// expression is a T-SQL expression.
type expression struct {
	op    string // one of the op constants, an operator, or a function's name in upper case after opCall
	name  string // of a column, a variable or a function
	table string // that a column is qualified with
	value any    // of a literal
	args  []*expression
}

const (
	opLiteral  = "literal"
	opColumn   = "column"
	opVariable = "variable"
	opCall     = "call"
	opCountAll = "count(*)"
	opIsNull   = "is null"
	opIn       = "in"
	opLike     = "like"
	opNot      = "not"
	opAnd      = "and"
	opOr       = "or"
	opNegative = "negative"
)

// walk visits an expression and everything in it.
func (e *expression) walk(visit func(*expression)) {
	visit(e)
	for _, a := range e.args {
		a.walk(visit)
	}
}

// The parser of expressions, loosest first.

func (p *parser) expression() *expression {
	p.deeper()
	defer p.shallower()
	left := p.conjunction()
	for p.accept("OR") {
		left = &expression{op: opOr, args: []*expression{left, p.conjunction()}}
	}
	return left
}

func (p *parser) conjunction() *expression {
	left := p.negation()
	for p.accept("AND") {
		left = &expression{op: opAnd, args: []*expression{left, p.negation()}}
	}
	return left
}

func (p *parser) negation() *expression {
	if p.accept("NOT") {
		p.deeper()
		defer p.shallower()
		return &expression{op: opNot, args: []*expression{p.negation()}}
	}
	return p.comparison()
}

func (p *parser) comparison() *expression {
	left := p.sum()
	if p.accept("IS") {
		not := p.accept("NOT")
		p.expect("NULL")
		return negated(not, &expression{op: opIsNull, args: []*expression{left}})
	}
	not := p.accept("NOT")
	switch {
	case p.accept("LIKE"):
		return negated(not, &expression{op: opLike, args: []*expression{left, p.sum()}})
	case p.accept("IN"):
		p.expect("(")
		e := &expression{op: opIn, args: append([]*expression{left}, p.list()...)}
		p.expect(")")
		return negated(not, e)
	case not:
		p.fail()
	}
	for _, op := range []string{"=", "<>", "!=", "<=", ">=", "<", ">"} {
		if p.accept(op) {
			if op == "!=" {
				op = "<>"
			}
			return &expression{op: op, args: []*expression{left, p.sum()}}
		}
	}
	return left
}

func negated(not bool, e *expression) *expression {
	if not {
		return &expression{op: opNot, args: []*expression{e}}
	}
	return e
}

func (p *parser) sum() *expression {
	left := p.factor()
	for {
		op := p.peek().text
		if !p.accept("+") && !p.accept("-") && !p.accept("*") && !p.accept("/") {
			return left
		}
		left = &expression{op: op, args: []*expression{left, p.factor()}}
	}
}

func (p *parser) list() []*expression {
	all := []*expression{p.expression()}
	for p.accept(",") {
		all = append(all, p.expression())
	}
	return all
}

func (p *parser) factor() *expression {
	t := p.peek()
	switch {
	case t.lexeme == lexText:
		p.take()
		return &expression{op: opLiteral, value: t.text}
	case t.lexeme == lexNumber:
		p.take()
		return &expression{op: opLiteral, value: number(t.text)}
	case t.lexeme == lexVariable:
		p.take()
		return &expression{op: opVariable, name: t.text}
	case p.accept("("):
		e := p.expression()
		p.expect(")")
		return e
	case p.accept("-"):
		p.deeper()
		defer p.shallower()
		return &expression{op: opNegative, args: []*expression{p.factor()}}
	case p.accept("NULL"):
		return &expression{op: opLiteral}
	case t.lexeme == lexName || t.lexeme == lexWord && !reserved(t.text):
		return p.columnOrCall()
	}
	p.fail()
	return nil
}

// number is a literal; one that is not whole, or too long, stays a text.
func number(text string) any {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return text
	}
	return n
}

func (p *parser) columnOrCall() *expression {
	var parts []string
	for {
		parts = append(parts, p.name())
		if !p.accept(".") {
			break
		}
	}
	last := parts[len(parts)-1]
	if len(parts) == 1 && p.accept("(") {
		return p.call(last)
	}
	e := &expression{op: opColumn, name: last}
	if len(parts) > 1 {
		e.table = parts[len(parts)-2]
	}
	return e
}

func (p *parser) call(name string) *expression {
	name = strings.ToUpper(name)
	e := &expression{op: opCall, name: name}
	switch {
	case p.accept(")"):
		return e
	case name == "COUNT" && p.accept("*"):
		p.expect(")")
		return &expression{op: opCountAll}
	case name == "CAST":
		e.args = []*expression{p.expression()}
		p.expect("AS")
		e.args = append(e.args, &expression{op: opLiteral, value: p.columnType()})
	case name == "CONVERT":
		kind := &expression{op: opLiteral, value: p.columnType()}
		p.expect(",")
		e.name, e.args = "CAST", []*expression{p.expression(), kind}
		if p.accept(",") {
			p.expression() // a style
		}
	default:
		e.args = p.list()
	}
	p.expect(")")
	return e
}

// reserved are the words that end an expression or begin the next clause, so that they are no names without brackets.
func reserved(word string) bool {
	switch strings.ToUpper(word) {
	case "SELECT", "FROM", "WHERE", "ORDER", "JOIN", "LEFT", "INNER", "OUTER", "ON", "AND", "OR", "NOT", "AS", "IN",
		"LIKE", "IS", "NULL", "INSERT", "UPDATE", "DELETE", "SET", "VALUES", "INTO", "CREATE", "ALTER", "DROP", "EXEC",
		"EXECUTE", "USE", "BEGIN", "COMMIT", "ROLLBACK", "DECLARE", "WITH", "BY", "TOP", "IF", "ELSE", "END", "PRINT",
		"WAITFOR", "BACKUP", "RESTORE", "SHUTDOWN", "GRANT", "CROSS", "GROUP", "HAVING", "UNION":
		return true
	}
	return false
}

// like matches a text with a pattern of LIKE: % and _ and [set].
func like(text, pattern string) bool {
	t, p := []rune(strings.ToUpper(text)), []rune(strings.ToUpper(pattern))
	// Where the last % stands, and what it has swallowed so far: going back to it is enough, as no other could do better.
	i, j, star, swallowed := 0, 0, -1, 0
	for i < len(t) {
		width, matches := 0, false
		if j < len(p) && p[j] != '%' {
			width, matches = element(p[j:], t[i])
		}
		switch {
		case j < len(p) && p[j] == '%':
			star, swallowed = j, i
			j++
		case matches:
			i, j = i+1, j+width
		case star >= 0:
			swallowed++
			i, j = swallowed, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p)
}

// element matches one character with the first element of a pattern and says how long that is.
func element(p []rune, c rune) (width int, matches bool) {
	switch p[0] {
	case '_':
		return 1, true
	case '[':
		for i := 1; i < len(p); i++ {
			if p[i] == ']' && i > 1 {
				return i + 1, strings.ContainsRune(string(p[1:i]), c)
			}
		}
	}
	return 1, p[0] == unicode.ToUpper(c)
}
