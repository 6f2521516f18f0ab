//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

var _ engine.Examiner = (*examiner)(nil)

// examiner looks at an instance for the doctor. It has an engine that never looked for a server, and so drives
// and watches none: an agent may be doing that at the same time.
type examiner struct {
	*Engine
	run  *run // the server, if one runs
	copy bool // it is in recovery

	found []engine.Check
}

// NewExaminer prepares to examine an instance. It changes nothing.
func NewExaminer(cfg Config, logger *slog.Logger) (engine.Examiner, error) {
	e, err := build(cfg, logger)
	if err != nil {
		return nil, err
	}
	return &examiner{Engine: e}, nil
}

// Close lets go of the connections and of the server's process.
func (x *examiner) Close() {
	if x.run != nil {
		_ = x.run.handle.Close()
	}
	//nolint:forbidigo // An interface without a context; each connection is given 100 ms to say goodbye.
	ctx := context.Background()
	x.acting.close(ctx)
}

func (x *examiner) good(name, format string, args ...any) {
	x.found = append(x.found, engine.Check{Name: name, Grade: engine.Good, Detail: fmt.Sprintf(format, args...)})
}

func (x *examiner) weak(name, do, format string, args ...any) {
	x.found = append(x.found,
		engine.Check{Name: name, Grade: engine.Weak, Detail: fmt.Sprintf(format, args...), Do: do})
}

func (x *examiner) bad(name, do, format string, args ...any) {
	x.found = append(x.found,
		engine.Check{Name: name, Grade: engine.Bad, Detail: fmt.Sprintf(format, args...), Do: do})
}

// Examine checks everything that the present state allows.
func (x *examiner) Examine(ctx context.Context, partner string) []engine.Check {
	x.found = nil
	data, why := x.data()
	x.checkPrograms(ctx, data)
	x.checkDirectories(data, why)
	x.checkConfigFile(ctx, data)
	x.checkSecrets()
	x.checkOtherStarters()
	if err := x.meet(ctx); err != nil {
		x.bad("connection", "let "+x.cfg.Superuser+" in over the socket, by peer or trust (pg_hba.conf: local all "+
			x.cfg.Superuser+" peer)", "%v", err)
	}
	switch {
	case x.run != nil:
		x.checkServer(ctx, partner)
	case data == engine.DataPresent:
		x.checkStopped(ctx)
	}
	x.checkSpace(ctx, data, partner)
	if partner != "" {
		x.checkPartner(ctx, partner, data)
	}
	return x.found
}

// meet finds the running server, if there is one, and connects to it.
func (x *examiner) meet(ctx context.Context) error {
	if x.run != nil {
		return nil
	}
	file, err := readPidFile(x.cfg.DataDir)
	if err != nil || !serves(file.pid, x.cfg.DataDir) {
		return nil //nolint:nilerr // None runs.
	}
	r, err := newRun(file.pid, x.readsRunFile(file.pid), nil)
	if err != nil {
		return err
	}
	r.adopted.Store(x.wasAdopted(r))
	x.copy, err = x.inRecovery(ctx, r)
	if err != nil {
		return errors.Join(err, r.handle.Close())
	}
	x.run = r
	return nil
}

// ask runs one statement at the running server.
func (x *examiner) ask(ctx context.Context, sql string, args ...string) ([]values, error) {
	return x.acting.query(ctx, x.run, sql, args...)
}

// setting is the value of a setting in the running server, or of a start without the agent.
func (x *examiner) setting(ctx context.Context, name string) (string, error) {
	if x.run == nil {
		return x.plainValue(ctx, name)
	}
	rows, err := x.ask(ctx, "select current_setting($1)", name)
	if err != nil {
		return "", err
	}
	return rows[0].text(0), nil
}

// addressesOf are the addresses of a host:port.
func addressesOf(ctx context.Context, address string) ([]net.IP, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q must be host:port: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	found, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []net.IP
	for _, text := range found {
		if ip := net.ParseIP(text); ip != nil {
			all = append(all, ip)
		}
	}
	return all, nil
}

// bytesText is a size for people.
func bytesText(n uint64) string {
	value, unit := float64(n), 0
	for value >= 1000 && unit < 4 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", value, []string{"", "kB", "MB", "GB", "TB"}[unit])
}

// codeOf is PostgreSQL's code of an error; "" if it is none of its.
func codeOf(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Code
	}
	return ""
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
