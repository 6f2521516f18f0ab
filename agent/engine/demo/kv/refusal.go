package kv

import "strings"

// Code is the first word after ERR. Programs tell refusals apart by it and never by the text.
type Code string

// The codes of refusals.
const (
	CodeReadOnly   Code = "readonly"    // nothing was done; the primary may be elsewhere
	CodeUnknown    Code = "unknown"     // the write may or may not survive
	CodeSyntax     Code = "syntax"      // the line is not a command
	CodeValue      Code = "value"       // the command does not suit the value
	CodeLimit      Code = "limit"       // too many connections
	CodeDenied     Code = "denied"      // an administrator's command on a client's connection
	CodeForeign    Code = "foreign"     // another database
	CodeNoData     Code = "nodata"      // the copy is empty, damaged or not whole
	CodeNotPrimary Code = "not_primary" // the command is for a primary
	CodePrimary    Code = "primary"     // the command is for a mirror
	CodeFailed     Code = "failed"      // it was tried and did not succeed
)

// Refusal is an answer that says no.
type Refusal struct {
	Code Code
	Text string
}

// Error is the refusal's text.
func (r *Refusal) Error() string { return r.Text }

// line is the refusal as it is sent.
func (r *Refusal) line() string {
	return "ERR " + string(r.Code) + " " + strings.ReplaceAll(r.Text, "\n", " ")
}

// parseReply splits an answer into its first word and the rest, or returns the refusal that it is.
func parseReply(line string) (word, rest string, err error) {
	word, rest, _ = strings.Cut(line, " ")
	if word != "ERR" {
		return word, rest, nil
	}
	code, text, _ := strings.Cut(rest, " ")
	return "", "", &Refusal{Code: Code(code), Text: text}
}
