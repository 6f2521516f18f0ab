package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/table"
)

// canAsk says whether somebody is there who sees a question and can answer it.
func (r *run) canAsk() bool { return r.inTerminal && r.errTerminal }

// confirmOff lets a person state that a host is off, by typing its name: "yes" is typed too easily at night.
func (r *run) confirmOff(ctx context.Context, why error, host string) (string, error) {
	if refusal, ok := errors.AsType[*endpoints.Refusal](why); ok {
		r.progress.say(refusal.Detail)
	}
	return r.typed(ctx, fmt.Sprintf("Is %s off, or cut from its clients? If it is not, there will be two primaries.\n"+
		"Type its name to state that it is, or nothing to leave things as they are: ", host), host)
}

// typed asks for a host's name on the terminal.
func (r *run) typed(ctx context.Context, question, host string) (string, error) {
	if err := r.progress.around(func() error {
		_, err := fmt.Fprint(r.err, table.Wrap(question, 0, ""))
		return err
	}); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	// Reading a terminal cannot be interrupted. If it must be, the program ends soon after.
	go func() {
		text, err := bufio.NewReader(r.in).ReadString('\n')
		answers <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case a := <-answers:
		switch {
		case a.err != nil && !errors.Is(a.err, io.EOF):
			return "", fmt.Errorf("read the answer: %w", a.err)
		case a.text == host:
			return host, nil
		case a.text == "":
			return "", &declined{"not confirmed; nothing was changed"}
		default:
			return "", &declined{fmt.Sprintf("%q is not %s; nothing was changed", a.text, host)}
		}
	}
}
