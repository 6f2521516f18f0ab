package sqlservertest

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// lexeme is what a token is.
type lexeme uint8

const (
	lexEnd      lexeme = iota // after the last
	lexWord                   // a keyword, or a name without quotes
	lexName                   // a name in brackets or quotes
	lexText                   // a string
	lexNumber                 // digits, perhaps with a point
	lexVariable               // @name or @@name
	lexSymbol                 // anything else
)

// token is a piece of T-SQL; text is without its quotes.
type token struct {
	lexeme lexeme
	text   string
	at     int // where it begins, in bytes
}

// is compares a keyword or symbol.
func (t token) is(word string) bool {
	return (t.lexeme == lexWord || t.lexeme == lexSymbol || t.lexeme == lexVariable) && strings.EqualFold(t.text, word)
}

// lex cuts T-SQL into tokens. The last is lexEnd. A text that ends inside of a quote or a comment is an error, 105 or
// 113.
func lex(sql string) ([]token, error) {
	l := lexer{rest: sql}
	for {
		l.blank()
		if l.failed != nil {
			return nil, l.failed
		}
		l.begin = l.at
		if l.rest == "" {
			return append(l.tokens, token{lexEnd, "", l.at}), nil
		}
		l.next()
	}
}

type lexer struct {
	rest      string
	at, begin int
	tokens    []token
	failed    error
}

func (l *lexer) skip(n int) string {
	s := l.rest[:n]
	l.rest, l.at = l.rest[n:], l.at+n
	return s
}

func (l *lexer) add(kind lexeme, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.begin})
}

// blank skips white space and comments; those between /* and */ nest.
func (l *lexer) blank() {
	for l.rest != "" {
		r, n := utf8.DecodeRuneInString(l.rest)
		switch {
		case unicode.IsSpace(r) || r == '\ufeff':
			l.skip(n)
		case strings.HasPrefix(l.rest, "--"):
			if n := strings.IndexByte(l.rest, '\n'); n >= 0 {
				l.skip(n)
			} else {
				l.skip(len(l.rest))
			}
		case strings.HasPrefix(l.rest, "/*"):
			l.comment()
		default:
			return
		}
	}
}

func (l *lexer) comment() {
	for depth := 0; l.rest != ""; {
		switch {
		case strings.HasPrefix(l.rest, "/*"):
			depth++
			l.skip(2)
		case strings.HasPrefix(l.rest, "*/"):
			depth--
			l.skip(2)
		default:
			l.skip(1)
		}
		if depth == 0 {
			return
		}
	}
	l.failed = sqlError(113, 15, "Missing end comment mark '*/'.")
}

func (l *lexer) next() {
	c := l.rest[0]
	switch {
	case (c == 'N' || c == 'n') && strings.HasPrefix(l.rest[1:], "'"):
		l.skip(1)
		l.quoted(lexText, '\'')
	case c == '\'':
		l.quoted(lexText, '\'')
	case c == '[':
		l.quoted(lexName, ']')
	case c == '"':
		l.quoted(lexName, '"')
	case c >= '0' && c <= '9':
		l.add(lexNumber, l.skip(l.count(func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })))
	case c == '@':
		l.add(lexVariable, l.skip(1+count(l.rest[1:], inName)))
	default:
		if n := l.count(inName); n > 0 {
			l.add(lexWord, l.skip(n))
			return
		}
		for _, pair := range []string{"<>", "<=", ">=", "!="} {
			if strings.HasPrefix(l.rest, pair) {
				l.add(lexSymbol, l.skip(2))
				return
			}
		}
		_, n := utf8.DecodeRuneInString(l.rest)
		l.add(lexSymbol, l.skip(n))
	}
}

func inName(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_@#$", r)
}

func (l *lexer) count(in func(rune) bool) int { return count(l.rest, in) }

func count(s string, in func(rune) bool) int {
	for i, r := range s {
		if !in(r) {
			return i
		}
	}
	return len(s)
}

// quoted reads up to the closing quote, which stands for itself when it is doubled.
func (l *lexer) quoted(kind lexeme, end byte) {
	l.skip(1)
	var text strings.Builder
	for {
		n := strings.IndexByte(l.rest, end)
		if n < 0 {
			l.failed = sqlError(105, 15, "Unclosed quotation mark after the character string '%s'.", short(l.rest))
			l.skip(len(l.rest))
			return
		}
		text.WriteString(l.skip(n))
		l.skip(1)
		if l.rest == "" || l.rest[0] != end {
			l.add(kind, text.String())
			return
		}
		text.WriteByte(end)
		l.skip(1)
	}
}

// short is the beginning of a text, for a message.
func short(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
