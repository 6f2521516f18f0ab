package kv

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A line of the replication and of the administration carries its arguments as name=value, with URL
// escapes in the values so that they contain no blanks.

// arguments is what came with a verb.
type arguments map[string]string

func parseArguments(text string) (arguments, error) {
	args := arguments{}
	for field := range strings.FieldsSeq(text) {
		name, value, ok := strings.Cut(field, "=")
		plain, err := url.QueryUnescape(value)
		if !ok || err != nil {
			return nil, &Refusal{Code: CodeSyntax, Text: "want name=value, not " + clip(field)}
		}
		args[name] = plain
	}
	return args, nil
}

// number is an argument that counts bytes; 0 if it is missing.
func (a arguments) number(name string) (int64, error) {
	if a[name] == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(a[name], 10, 64)
	if err != nil || n < 0 {
		return 0, &Refusal{Code: CodeSyntax, Text: name + " is not a number of bytes"}
	}
	return n, nil
}

// joinArguments writes pairs of name and value; a pair without a value is left out.
func joinArguments(verb string, pairs ...string) string {
	words := []string{verb}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			words = append(words, pairs[i]+"="+url.QueryEscape(pairs[i+1]))
		}
	}
	return strings.Join(words, " ")
}

// hello is how a mirror introduces itself.
type hello struct {
	name    string  // under which its confirmations count
	system  string  // "" while the mirror has no data
	end     int64   // of what it has on disk
	history History // of that
	// fresh says that the mirror has emptied itself and wants everything.
	fresh bool
}

func (h hello) line() string {
	fresh := ""
	if h.fresh {
		fresh = "yes"
	}
	return joinArguments("MIRROR", "name", h.name, "system", h.system,
		"end", strconv.FormatInt(h.end, 10), "timelines", h.history.String(), "fresh", fresh)
}

func parseHello(text string) (hello, error) {
	args, err := parseArguments(text)
	if err != nil {
		return hello{}, err
	}
	h := hello{name: args["name"], system: args["system"], fresh: args["fresh"] == "yes"}
	if h.name == "" {
		return hello{}, &Refusal{Code: CodeSyntax, Text: "a mirror must say its name"}
	}
	if h.end, err = args.number("end"); err != nil {
		return hello{}, err
	}
	if h.history, err = parseHistory(args["timelines"]); err != nil {
		return hello{}, &Refusal{Code: CodeSyntax, Text: err.Error()}
	}
	return h, nil
}

// The primary's answers to a hello.
const (
	verdictStream   = "STREAM"   // frames follow, from the mirror's end on
	verdictDiverged = "DIVERGED" // the logs agree up to an offset; cut there and come again
	verdictCopy     = "COPY"     // the logs have nothing in common; become empty and come again
)

// welcome is the primary's answer to a hello.
type welcome struct {
	verdict string
	system  string
	at      int64 // where the logs part
	end     int64 // of what the primary has on disk
}

func (w welcome) line() string {
	return joinArguments(w.verdict, "system", w.system,
		"at", strconv.FormatInt(w.at, 10), "end", strconv.FormatInt(w.end, 10))
}

func parseWelcome(line string) (welcome, error) {
	verdict, rest, err := parseReply(line)
	if err != nil {
		return welcome{}, err
	}
	args, err := parseArguments(rest)
	if err != nil {
		return welcome{}, err
	}
	w := welcome{verdict: verdict, system: args["system"]}
	var errEnd error
	w.at, err = args.number("at")
	w.end, errEnd = args.number("end")
	if err != nil || errEnd != nil || w.system == "" {
		return welcome{}, fmt.Errorf("answer to a mirror: %s", clip(line))
	}
	return w, nil
}

// judge decides how a mirror with that log can follow a primary with this one.
func judge(h hello, system string, history History, flushed int64) (welcome, error) {
	w := welcome{system: system, end: flushed}
	if h.system != "" && h.system != system {
		return w, &Refusal{Code: CodeForeign,
			Text: fmt.Sprintf("this is database %s, and you hold %s", system, h.system)}
	}
	at, related := fork(history, flushed, h.history, h.end)
	switch {
	case h.fresh && h.end == 0:
		w.verdict = verdictStream
	case !related:
		w.verdict = verdictCopy
	case at < h.end:
		w.verdict, w.at = verdictDiverged, at
	default:
		w.verdict, w.at = verdictStream, at
	}
	return w, nil
}
