package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// talk is one session of a client.
type talk interface {
	// ask carries out one statement and returns its only row. An errRefused says that the session goes on.
	ask(ctx context.Context, sql string) ([]string, error)
	close()
}

// errRefused is a statement that the server did not carry out, as a mirror does with a commit.
var errRefused = errors.New("the server refused")

// connect waits for as long as it takes once the socket is open: the server may be frozen, and go on later.
func (c *Client) connect(ctx context.Context) (talk, error) {
	if c.Libpq {
		return connectLibpq(ctx, c.outside, c.To...)
	}
	from := c.outside
	if c.Place.On != nil {
		from = c.Place.On.space
	}
	config, err := postgresConfig(from, c.To...)
	if err != nil {
		return nil, err
	}
	if len(c.To) > 1 {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		config.ConnectTimeout = severalTimeout
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &pgxTalk{conn: conn}, nil
}

type pgxTalk struct{ conn *pgconn.PgConn }

func (t *pgxTalk) ask(ctx context.Context, sql string) ([]string, error) {
	results, err := t.conn.Exec(ctx, sql).ReadAll()
	if said, ok := errors.AsType[*pgconn.PgError](err); ok && !t.conn.IsClosed() && said.Severity != "FATAL" {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("not one row for %q", sql)
	}
	var row []string
	for _, field := range results[0].Rows[0] {
		row = append(row, string(field))
	}
	return row, nil
}

// close says goodbye if that can be done at once. The session may be at its end because its context is.
func (t *pgxTalk) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_ = t.conn.Close(ctx)
}

// libpqTalk is a psql that is told one statement after the other.
type libpqTalk struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	lines *bufio.Scanner
	words bytes.Buffer // of its errors; to be read only when it has ended
}

// answered is the beginning of the line that ends an answer.
const answered = "-- "

// libpqURL is what an application would have in its configuration.
func libpqURL(addresses []string, more string) string {
	return fmt.Sprintf("postgresql://postgres@%s/postgres?target_session_attrs=read-write&connect_timeout=%d"+
		"&sslmode=disable&gssencmode=disable%s", strings.Join(addresses, ","), int(severalTimeout.Seconds()), more)
}

func connectLibpq(ctx context.Context, from *namespace, addresses ...string) (talk, error) {
	t := &libpqTalk{cmd: exec.CommandContext(ctx, "psql", "-X", "-A", "-t", "-q", "-w", "-d", libpqURL(addresses, ""))}
	t.cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	t.cmd.Stderr = &t.words
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if t.input, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	t.lines = bufio.NewScanner(out)
	if err := from.inside(t.cmd.Start); err != nil {
		return nil, fmt.Errorf("start psql: %w", err)
	}
	// It reads this only when it is connected.
	if _, err := t.finish(""); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *libpqTalk) ask(_ context.Context, sql string) ([]string, error) {
	row, err := t.finish(sql + ";\n")
	if err != nil {
		return nil, err
	}
	return strings.Split(row, "|"), nil
}

// finish writes a command and reads what it answers. The process dies with its context, which ends the wait.
func (t *libpqTalk) finish(command string) (string, error) {
	if _, err := io.WriteString(t.input, command+"\\echo '--' :ERROR :SQLSTATE\n"); err != nil {
		return "", t.ended()
	}
	var row []string
	for t.lines.Scan() {
		state, last := strings.CutPrefix(t.lines.Text(), answered)
		switch {
		case !last:
			row = append(row, t.lines.Text())
		case strings.HasPrefix(state, "true"):
			return "", fmt.Errorf("%w: %s", errRefused, state)
		case len(row) > 1:
			return "", fmt.Errorf("psql answered with %d rows", len(row))
		default:
			return strings.Join(row, ""), nil
		}
	}
	return "", t.ended()
}

// ended collects the process and says what it said last.
func (t *libpqTalk) ended() error {
	_ = t.cmd.Process.Kill() // it may be at its end only as far as its input goes
	err := t.cmd.Wait()
	return fmt.Errorf("psql ended: %w: %s", err, strings.TrimSpace(t.words.String()))
}

func (t *libpqTalk) close() {
	_ = t.input.Close()
	_ = t.cmd.Process.Kill()
	_ = t.cmd.Wait() // it was killed, or has been collected
}
