package kv

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"
)

// Admin speaks to a running server over its admin socket. Each call has a connection of its own, so calls
// may run at the same time and a hanging one is in nobody's way.
type Admin struct {
	Socket string // path
}

// Status looks at the server.
func (a Admin) Status(ctx context.Context) (Status, error) {
	var st Status
	rest, err := a.call(ctx, "STATUS", "STATUS")
	if err == nil {
		err = json.Unmarshal([]byte(rest), &st)
	}
	return st, err
}

// Promote makes the server the primary and holds commits for the mirror.
func (a Admin) Promote(ctx context.Context, mirror string) error {
	_, err := a.call(ctx, joinArguments("PROMOTE", "mirror", mirror, "wait", waitOf(ctx)), "OK")
	return err
}

// Hold makes a primary hold commits for the mirror and returns when it was seen to.
func (a Admin) Hold(ctx context.Context, mirror string) error {
	_, err := a.call(ctx, joinArguments("HOLD", "mirror", mirror, "wait", waitOf(ctx)), "OK")
	return err
}

// Alone lets a primary acknowledge commits by its own disk.
func (a Admin) Alone(ctx context.Context) error {
	_, err := a.call(ctx, "ALONE", "OK")
	return err
}

// Follow makes a mirror follow the upstream. Status shows what comes of it.
func (a Admin) Follow(ctx context.Context, up Upstream) error {
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return ""
	}
	_, err := a.call(ctx, joinArguments("FOLLOW", "address", up.Address, "name", up.Name,
		"system", up.System, "copy", yes(up.AllowCopy), "keep", yes(up.KeepDiverged),
		"wait", waitOf(ctx)), "OK")
	return err
}

// HandOver drains a primary, gives its mirror so long to confirm everything, and makes it end.
func (a Admin) HandOver(ctx context.Context, mirror string, wait time.Duration) (Handover, error) {
	var h Handover
	line := joinArguments("HANDOVER", "mirror", mirror, "wait", wait.String())
	rest, err := a.call(ctx, line, "OK")
	if err == nil {
		err = json.Unmarshal([]byte(rest), &h)
	}
	return h, err
}

// call sends one line and returns the rest of the one that comes back, which must begin as expected.
func (a Admin) call(ctx context.Context, line, want string) (string, error) {
	verb, _, _ := strings.Cut(line, " ")
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.Socket)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.ToLower(verb), err)
	}
	defer conn.Close()
	rest, err := exchange(ctx, conn, bufio.NewReader(conn), line, want)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.ToLower(verb), err)
	}
	return rest, nil
}

// unexpected is an answer that does not begin with the word that was waited for.
type unexpected struct{ answer string }

func (u *unexpected) Error() string { return "unexpected answer " + clip(u.answer) }

// exchange sends a line and reads the answer, until ctx ends.
func exchange(ctx context.Context, conn net.Conn, in *bufio.Reader, line, want string) (string, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return "", err
	}
	// A deadline in the past makes the pending read return when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	rest, err := func() (string, error) {
		if _, err := conn.Write([]byte(line + "\n")); err != nil {
			return "", err
		}
		answer, err := readLine(in)
		if err != nil {
			return "", err
		}
		word, rest, err := parseReply(answer)
		if err == nil && word != want {
			err = &unexpected{answer: answer}
		}
		return rest, err
	}()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return rest, err
}
