package kv

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// scanLimit is how many keys SCAN shows unless told, and scanMost how many it shows at most.
const (
	scanLimit = 100
	scanMost  = 10000
)

// client runs a client's command; known is false if it is none.
func (s *Server) client(verb, args string) (text string, known bool, err error) {
	known = true
	switch verb {
	case "SET":
		text, err = s.doSet(args)
	case "DEL":
		text, err = s.doDelete(args)
	case "INCR":
		text, err = s.doIncrement(args)
	case "GET":
		text, err = s.doGet(args)
	case "COUNT":
		s.mu.Lock()
		defer s.mu.Unlock()
		text = fmt.Sprintf("VALUE %d", s.image.count(args))
	case "SCAN":
		text, err = s.doScan(args)
	case "ROLE":
		text = "ROLE " + string(s.currentRole())
	case "STATUS":
		var b []byte
		b, err = json.Marshal(s.Status())
		text = "STATUS " + string(b)
	case "PING":
		text = "PONG"
	default:
		known = false
	}
	return text, known, err
}

// currentRole is mirror as well for a primary that is about to stop: clients had better look elsewhere.
func (s *Server) currentRole() Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return RoleMirror
	}
	return s.role
}

func checkKey(key string) error {
	switch {
	case key == "":
		return &Refusal{Code: CodeSyntax, Text: "which key?"}
	case strings.ContainsAny(key, " \t"):
		return &Refusal{Code: CodeSyntax, Text: "one key, without blanks"}
	case len(key) > maxKey:
		return &Refusal{Code: CodeSyntax, Text: fmt.Sprintf("a key has at most %d bytes", maxKey)}
	default:
		return nil
	}
}

func (s *Server) doSet(args string) (string, error) {
	key, value, given := strings.Cut(args, " ")
	if err := checkKey(key); err != nil {
		return "", err
	}
	if !given {
		return "", &Refusal{Code: CodeSyntax, Text: "SET needs a key and a value"}
	}
	err := s.write(func(*image) (change, error) { return change{key: key, value: value}, nil })
	return "OK", err
}

// doDelete writes also when the key is not there: an answer that says so without waiting would tell of a
// deletion that is not confirmed.
func (s *Server) doDelete(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	err := s.write(func(*image) (change, error) { return change{key: key, remove: true}, nil })
	return "OK", err
}

func (s *Server) doIncrement(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	var value string
	err := s.write(func(m *image) (change, error) {
		n, err := m.next(key)
		if err != nil {
			return change{}, &Refusal{Code: CodeValue, Text: err.Error()}
		}
		value = strconv.FormatInt(n, 10)
		return change{key: key, value: value}, nil
	})
	return "VALUE " + value, err
}

func (s *Server) doGet(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.image.values[key]; ok {
		return "VALUE " + value, nil
	}
	return "NONE", nil
}

func (s *Server) doScan(args string) (string, error) {
	prefix, number, given := strings.Cut(args, " ")
	limit := scanLimit
	if given {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > scanMost {
			return "", &Refusal{Code: CodeSyntax,
				Text: fmt.Sprintf("SCAN prefix n: n is from 1 to %d", scanMost)}
		}
		limit = n
	}
	s.mu.Lock()
	found := s.image.scan(prefix, limit)
	s.mu.Unlock()
	var text strings.Builder
	for _, c := range found {
		fmt.Fprintf(&text, "KEY %s %s\n", c.key, c.value)
	}
	fmt.Fprintf(&text, "END %d", len(found))
	return text.String(), nil
}
