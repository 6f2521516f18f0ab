package sqlservertest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// Script runs T-SQL as sqlcmd does, in batches that end at lines with the word GO, and stops at the first error. Rows
// are thrown away.
func (i *Instance) Script(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := i.run()
	session, _, refused := r.newSession(ctx, tds.Login{User: r.user, Password: r.password}, cancel)
	if refused != nil {
		return errors.New(refused[0].Message)
	}
	defer session.Close()
	for _, batch := range batches(text) {
		answer := session.Run(ctx, tds.Request{SQL: batch})
		if len(answer.Errors) > 0 {
			e := answer.Errors[0]
			return fmt.Errorf("msg %d: %s; the batch is: %s", e.Number, e.Message, short(batch))
		}
		if answer.Drop {
			return fmt.Errorf("the session has ended; the batch was: %s", short(batch))
		}
	}
	return nil
}

func batches(text string) []string {
	var all []string
	var one strings.Builder
	for line := range strings.Lines(text) {
		if strings.EqualFold(strings.TrimSpace(line), "GO") {
			all = append(all, one.String())
			one.Reset()
			continue
		}
		one.WriteString(line)
	}
	return append(all, one.String())
}
