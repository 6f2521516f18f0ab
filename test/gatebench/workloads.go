package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// sample is what one workload on one target in one round gave.
type sample struct {
	rate float64       // units a second
	p50  time.Duration // of pgbench's transactions
	p99  time.Duration
	cpu  time.Duration // of the proxy, per million units
}

// workload is something to be done through a target. Run returns how many units it did in how long.
type workload struct {
	name string
	unit string
	per  float64 // units of which the table tells the processor time
	run  func(ctx context.Context, s *stage, o options, t target) (units float64, sample sample, err error)
}

func workloads() []workload {
	var list []workload
	for _, clients := range []int{1, 8, 32} {
		list = append(list, workload{
			name: fmt.Sprintf("pgbench-%d", clients), unit: "transactions", per: 1e6,
			run: func(ctx context.Context, s *stage, o options, t target) (float64, sample, error) {
				return pgbench(ctx, s.dir, o.each, clients, t)
			},
		})
	}
	return append(list,
		workload{name: "copy", unit: "MB", per: 1000, run: copyOut},
		workload{name: "stream", unit: "MB", per: 1000, run: stream},
	)
}

// pgbench runs single-row selects, prepared, and reads each transaction's time from pgbench's own log.
func pgbench(ctx context.Context, dir string, each time.Duration, clients int, t target) (float64, sample, error) {
	host, port, err := net.SplitHostPort(t.postgres)
	if err != nil {
		return 0, sample{}, err
	}
	logs, err := os.MkdirTemp(dir, "pgbench-")
	if err != nil {
		return 0, sample{}, err
	}
	defer func() { _ = os.RemoveAll(logs) }()
	out, err := exec.CommandContext(ctx, "pgbench", "-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients),
		"-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(int(each.Seconds())), "-l",
		"--log-prefix", filepath.Join(logs, "log"), "-h", host, "-p", port, "-U", "postgres", "postgres").CombinedOutput()
	if err != nil {
		return 0, sample{}, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	tps, err := tpsOf(string(out))
	if err != nil {
		return 0, sample{}, err
	}
	times, err := timesIn(logs)
	if err != nil {
		return 0, sample{}, err
	}
	slices.Sort(times)
	return float64(len(times)), sample{
		rate: tps, p50: times[len(times)/2], p99: times[len(times)*99/100],
	}, nil
}

func tpsOf(out string) (float64, error) {
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			number, _, _ := strings.Cut(rest, " ")
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("pgbench printed no tps: %s", out)
}

// timesIn reads the logs of all of pgbench's threads: the third field is a transaction's time in microseconds.
func timesIn(dir string) ([]time.Duration, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 3 {
				continue
			}
			us, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				continue
			}
			times = append(times, time.Duration(us)*time.Microsecond)
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	if len(times) == 0 {
		return nil, errors.New("pgbench has logged no transaction")
	}
	return times, nil
}

const megabyte = 1e6

// copyOut reads a large result.
func copyOut(ctx context.Context, _ *stage, o options, t target) (float64, sample, error) {
	host, port, err := net.SplitHostPort(t.postgres)
	if err != nil {
		return 0, sample{}, err
	}
	c, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable", host, port))
	if err != nil {
		return 0, sample{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	const row = 4000
	rows := o.stream / row / 4 // PostgreSQL, not the way to it, is what takes the time here
	var n counter
	began := time.Now()
	query := fmt.Sprintf("copy (select repeat('x', %d) from generate_series(1, %d)) to stdout", row, rows)
	if _, err = c.CopyTo(ctx, &n, query); err != nil {
		return 0, sample{}, err
	}
	return rated(int64(n), time.Since(began))
}

type counter int64

func (n *counter) Write(b []byte) (int, error) {
	*n += counter(len(b))
	return len(b), nil
}

// stream reads from a server that only writes.
func stream(ctx context.Context, _ *stage, o options, t target) (float64, sample, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", t.source)
	if err != nil {
		return 0, sample{}, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{askStream}); err != nil {
		return 0, sample{}, err
	}
	buf := make([]byte, 256<<10)
	began := time.Now()
	var n int64
	for n < o.stream {
		got, err := c.Read(buf)
		if err != nil {
			return 0, sample{}, err
		}
		n += int64(got)
	}
	return rated(n, time.Since(began))
}

func rated(n int64, took time.Duration) (float64, sample, error) {
	units := float64(n) / megabyte
	return units, sample{rate: units / took.Seconds()}, nil
}

// rounds runs all workloads on all targets, each round beginning with another target.
func (s *stage) rounds(ctx context.Context, o options, out io.Writer) (map[string]map[string][]sample, error) {
	results := map[string]map[string][]sample{}
	for _, w := range workloads() {
		if !o.takes(w.name) {
			continue
		}
		results[w.name] = map[string][]sample{}
		for round := range o.rounds {
			for i := range s.targets {
				t := s.targets[(i+round)%len(s.targets)]
				got, err := s.measure(ctx, o, w, t)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", w.name, t.name, err)
				}
				results[w.name][t.name] = append(results[w.name][t.name], got)
				_, _ = fmt.Fprintf(out, "%-10s round %d  %-22s %10.0f %s/s  p99 %8v  cpu %v\n",
					w.name, round+1, t.name, got.rate, w.unit, got.p99, got.cpu.Round(time.Millisecond))
			}
		}
	}
	return results, nil
}

func (s *stage) measure(ctx context.Context, o options, w workload, t target) (sample, error) {
	before, err := s.cpuOf(t)
	if err != nil {
		return sample{}, err
	}
	units, got, err := w.run(ctx, s, o, t)
	if err != nil {
		return sample{}, err
	}
	after, err := s.cpuOf(t)
	if err != nil {
		return sample{}, err
	}
	got.cpu = time.Duration(float64(after-before) / units * w.per)
	return got, nil
}

func (s *stage) cpuOf(t target) (time.Duration, error) {
	if t.pid == 0 {
		return 0, nil
	}
	return cpu(t.pid)
}
