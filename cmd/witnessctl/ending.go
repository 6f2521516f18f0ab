package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Exit codes. Scripts depend on them: a code is never given another meaning.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreached   = 4
	exitNotDone     = 5
	exitInterrupted = 130
)

// exitCode explains a code.
type exitCode struct {
	code          int
	word, meaning string
}

func exitCodes() []exitCode {
	return []exitCode{
		{exitDone, "done", "what was asked is done, or shown"},
		{exitFailed, "failed", "a fault on this side or an internal one of the witness; also: not confirmed"},
		{exitUsage, "usage", "the command line or the configuration is wrong; nobody was asked"},
		{exitRefused, "refused", "the witness refused, nothing was changed; also: pair explain --exit-code, not ready"},
		{exitUnreached, "not reached", "no node answered in time, or the witness has no leader; " +
			"also: how a procedure ended was not seen"},
		{exitNotDone, "not done", "the procedure ended, but what it was for is not done"},
		{exitInterrupted, "interrupted", "interrupted; what was started goes on without this command"},
	}
}

func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "  %3d  %-12s %s\n", c.code, c.word, c.meaning)
	}
	return b.String()
}

// ending is how a run ended when it did not end well: what, why, and what to do about it.
type ending struct {
	Code     int               `json:"code"`
	Word     string            `json:"word"`
	What     string            `json:"what"`
	Why      string            `json:"why"`
	Reason   string            `json:"reason,omitempty"`
	Do       string            `json:"do,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// usageError is a command line that cannot be carried out. Nobody was asked anything.
type usageError struct{ text, do string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// declined means that a person was asked and did not confirm.
type declined struct{ text string }

func (e *declined) Error() string { return e.text }

// notDone means that a procedure ended without having done what it was for.
type notDone struct{ outcome *witnessv1.Outcome }

func (e *notDone) Error() string { return view.OutcomeText(e.outcome) }

// unseen means that a procedure was started and its end was not seen here. It goes on.
type unseen struct {
	what, procedure string
	err             error // why
}

func (e *unseen) Error() string {
	return e.what + " goes on without this command; how it ends is not known here"
}
func (e *unseen) Unwrap() error { return e.err }

// outside means that the node that was asked is no part of a witness.
type outside struct{ node string }

func (e *outside) Error() string { return e.node + " is no part of a witness: it waits for node add" }

// notReady is the answer of pair explain --exit-code; everything was printed already.
type notReady struct{}

func (notReady) Error() string { return "not ready" }

// finish tells how a run ended and returns its exit code.
func (r *run) finish(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	if errors.As(err, &notReady{}) {
		return exitRefused
	}
	e := endingOf(cmd, err)
	for _, c := range exitCodes() {
		if c.code == e.Code {
			e.Word = c.word
		}
	}
	if r.globals.output == outputJSON || r.settings != nil && r.settings.Output == outputJSON {
		if line, err := json.Marshal(map[string]ending{"error": e}); err == nil {
			r.complain("%s\n", line)
			return e.Code
		}
	}
	r.complain("%s: %s\n", e.Word, table.Clean(e.What))
	why := e.Why
	if e.Reason != "" {
		why += " (" + e.Reason + ")"
	}
	for _, line := range []struct{ name, text string }{{"why", why}, {"do", e.Do}} {
		if line.text != "" {
			r.complain("  %-4s %s\n", line.name+":", table.Clean(line.text))
		}
	}
	return e.Code
}

// complain writes to stderr. If that cannot be, there is nobody left to tell.
func (r *run) complain(format string, args ...any) {
	_, _ = fmt.Fprintf(r.err, format, args...)
}

// endingOf says what an error means for the one who asked. It looks at types and reasons, never at text.
func endingOf(cmd *cobra.Command, err error) ending {
	e := ending{Code: exitFailed, What: cmd.CommandPath(), Why: endpoints.Failure(err)}
	about := subject{}
	if a, ok := errors.AsType[*attempt](err); ok {
		e.What, e.Why, about = a.what, endpoints.Failure(a.err), a.about
	} else {
		err = usagef("%v", err)
	}
	if wrong, ok := errors.AsType[*usageError](err); ok {
		e.Code, e.Why = exitUsage, wrong.text
		e.Do = cmp.Or(wrong.do, "see "+cmd.CommandPath()+" --help")
		return e
	}
	if end, ok := errors.AsType[*notDone](err); ok {
		o := end.outcome
		e.Code, e.Why, e.Reason = exitNotDone, cmp.Or(o.GetDetail(), "the witness gives no reason"), o.GetReason()
		e.Do = about.advice(o.GetReason())
		return e
	}
	if r, ok := errors.AsType[*endpoints.Refusal](err); ok {
		e.Code, e.Why, e.Reason, e.Metadata = exitRefused, r.Detail, r.Reason, r.Metadata
		about.pair = cmp.Or(about.pair, r.Metadata["pair"])
		e.Do = cmp.Or(r.Do, about.advice(r.Reason))
		if r.Doubt {
			e.Why += "; an earlier try of the same request was not answered and may have been accepted"
		}
	}
	if u, ok := errors.AsType[*endpoints.Unanswered](err); ok {
		e.Code, e.Why = exitUnreached, u.Error()
		e.Do = "check --endpoint, " + envEndpoints + " or ~/.config/" + configName + ", and whether the nodes run"
		if u.NoLeader {
			e.Why = "the witness has no leader; " + e.Why
			e.Do = "bring back nodes until a majority is up; see witnessctl status, or add --stale to read"
		}
		if u.Doubt {
			e.Why += "; the request was sent, and it is not known whether it was accepted"
			e.Do = "look before you ask again: " + about.look() + "; " + e.Do
		}
	}
	if o, ok := errors.AsType[*outside](err); ok {
		e.Code = exitUnreached
		e.Do = "name a node of the witness with --endpoint, and have it take this one in, " +
			"started with an empty data directory: witnessctl node add " + o.node
	}
	if i, ok := errors.AsType[*endpoints.Interrupted](err); ok || errors.Is(err, context.Canceled) {
		e.Code, e.Why = exitInterrupted, ""
		if ok && i.Doubt {
			e.Why = "the request was sent, and it is not known whether it was accepted"
		}
	}
	if s, ok := errors.AsType[*unseen](err); ok {
		if e.Code == exitRefused { // to watch, which says nothing of what is watched
			e.Code = exitUnreached
		}
		if e.Why != "" {
			e.Why = "; " + e.Why
		}
		e.Why = s.Error() + e.Why
		e.Do = "keep watching: witnessctl procedure wait " + s.procedure
	}
	return e
}
