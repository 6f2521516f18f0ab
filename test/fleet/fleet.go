// Package fleet runs a whole system of real processes: three nodes of the witness, and for each
// pair two hosts with an agent and a database each. It is what `make demo` and `make e2e` stand on: faults
// are real signals to real processes.
//
// A "host" is a directory, a set of ports and the processes that work in that directory; on demand it is a
// network namespace too, with an address and a cable of its own and a supervisor for its agent. Everything lives below
// one temporary directory; Close ends every process that was started there and removes it.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what to build.
type Options struct {
	Engine  string // demo, postgres, sqlserver-mirroring or sqlserver-ag; the last two drive a fake
	Pairs   []string
	Nodes   int
	Log     io.Writer // progress, for people
	Keep    bool      // leave the directory behind, to look at logs
	Verbose bool      // debug logs of nodes and agents

	// Programs is a directory with witnessd, witness-agent, witnessctl and demodb to run, instead of those of this
	// module.
	Programs string
	// Namespaces gives every node and every host a network of its own, and every agent a supervisor. It needs root,
	// and any engine but demo.
	Namespaces bool
	// Gates gives every host a gate; it needs namespaces.
	Gates bool
	// Lines makes every cable of a host or a node one that SetLine can make bad; it needs namespaces.
	Lines bool
	// Clocks gives every host and every node a wall clock that StepClock steps. The programs are built for it, so it
	// goes with none of somebody else's making; it needs engine postgres.
	Clocks bool
	// DiskMB gives every host's database a disk of its own of that many million bytes, which can be filled or made
	// read-only. 0: the disk is the fleet's. It needs root and engine postgres.
	DiskMB int
	// WalMB gives the log of every database that is made new a disk of its own in addition. 0: it is on the
	// database's.
	WalMB int
	// StateOnDisk puts the agent's state directory on the database's disk too.
	StateOnDisk bool
}

func (o Options) sqlServer() bool { return strings.HasPrefix(o.Engine, "sqlserver") }

// Fleet is a running system.
type Fleet struct {
	opts  Options
	dir   string
	bin   string
	Nodes []*Node
	Pairs []*Pair
	hosts []*Host // all, in a pair or not

	network      *network   // nil: everything is on loopback
	outside      *namespace // where clients are that live on no host; nil: on loopback
	clockLibrary string     // to be loaded before PostgreSQL; "": clocks do not step

	aside  sync.Mutex
	others []*process // to be ended with the fleet, besides nodes and hosts
}

// Pair is one pair of hosts.
type Pair struct {
	Name  string
	Hosts [2]*Host
	// Scale is pgbench's, for the first call of Pgbench. 0: 10.
	Scale int

	rows     atomic.Int64 // numbers every write ever tried on the pair
	benching sync.Mutex
	benched  bool // pgbench's tables are made
}

// Start builds the programs and brings the whole system up until every pair exists. It does not wait for the
// pairs to be armed.
func Start(ctx context.Context, opts Options) (*Fleet, error) {
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	dir, err := os.MkdirTemp("", "witness")
	if err != nil {
		return nil, fmt.Errorf("make fleet directory: %w", err)
	}
	// PostgreSQL runs as another user and must be able to reach its directory below.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	f := &Fleet{opts: opts, dir: dir, bin: filepath.Join(dir, "bin")}
	if opts.Programs != "" {
		f.bin = opts.Programs
	}
	if err := f.start(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) start(ctx context.Context) error {
	if err := f.build(ctx); err != nil {
		return err
	}
	if err := f.wire(); err != nil {
		return err
	}
	if err := f.startNodes(); err != nil {
		return err
	}
	for _, name := range f.opts.Pairs {
		if err := f.addPair(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// wire makes the network.
func (f *Fleet) wire() error {
	if !f.opts.Namespaces {
		if f.opts.Lines {
			return errors.New("lines that can be made bad need namespaces")
		}
		return nil
	}
	if f.opts.Engine == "demo" {
		return fmt.Errorf("engine %q does not work in namespaces: take postgres or sqlserver-mirroring", f.opts.Engine)
	}
	var err error
	if f.opts.Lines {
		if err = requireTun(); err != nil {
			return err
		}
	}
	if f.network, err = newNetwork(); err != nil {
		return err
	}
	if f.outside, err = f.network.join("outside"); err != nil {
		return err
	}
	// Clients keep the kernel's own cable: those of hosts and nodes are bad enough.
	f.network.lines = f.opts.Lines
	return nil
}

// Dir is where everything lives.
func (f *Fleet) Dir() string { return f.dir }

// build compiles the programs of this module.
func (f *Fleet) build(ctx context.Context) error {
	if f.opts.Clocks && (f.opts.Programs != "" || f.opts.Engine != "postgres") {
		return errors.New("clocks that step need programs that the fleet builds itself, and engine postgres")
	}
	if f.opts.Programs != "" {
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	f.sayf("building programs")
	args := []string{"build", "-o", f.bin + "/"}
	if f.opts.Clocks {
		overlay, err := f.buildClocks(ctx)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	args = append(args, "./cmd/...")
	if f.opts.sqlServer() {
		args = append(args, "./agent/engine/sqlserver/sqlservertest/fakesql")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs: %w\n%s", err, out)
	}
	return nil
}

// buildClocks makes what the programs need for a clock that steps, and returns the overlay for their build.
func (f *Fleet) buildClocks(ctx context.Context) (string, error) {
	dir := filepath.Join(f.dir, "clocks")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		f.clockLibrary, err = clockLibrary(ctx, dir)
	}
	if err != nil {
		return "", err
	}
	return clockOverlay(ctx, dir)
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

func (f *Fleet) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(f.opts.Log, format+"\n", args...)
}

func (f *Fleet) startNodes() error {
	for i := range f.opts.Nodes {
		id := fmt.Sprintf("w%d", i+1)
		dir := filepath.Join(f.dir, id)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		n := &Node{ID: id, dir: dir, config: filepath.Join(dir, "witnessd.yaml"), fleet: f}
		if err := n.addresses(); err != nil {
			return err
		}
		if f.opts.Clocks {
			var err error
			if n.clock, err = newClock(filepath.Join(dir, "clock")); err != nil {
				return err
			}
		}
		f.Nodes = append(f.Nodes, n)
	}
	for _, n := range f.Nodes {
		if err := os.WriteFile(n.config, []byte(f.nodeConfig(n)), 0o600); err != nil {
			return err
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// addPair makes two hosts and asks the witness for the pair. The database is made on the first.
func (f *Fleet) addPair(ctx context.Context, name string) error {
	p := &Pair{Name: name}
	for i, suffix := range []string{"a", "b"} {
		h, err := f.NewHost(name + "-" + suffix)
		if err != nil {
			return err
		}
		p.Hosts[i] = h
	}
	if err := f.makeDatabases(ctx, p); err != nil {
		return err
	}
	for _, h := range p.Hosts {
		if err := h.Start(); err != nil {
			return err
		}
	}
	f.Pairs = append(f.Pairs, p)
	return f.createPair(ctx, p)
}

func (f *Fleet) makeDatabases(ctx context.Context, p *Pair) error {
	a, b := p.Hosts[0], p.Hosts[1]
	if k, ok := a.engine.(togetherKit); ok {
		f.sayf("preparing pair %s: a session of %s and %s is set up", p.Name, a.Name, b.Name)
		return k.together(ctx, b.engine)
	}
	f.sayf("preparing pair %s: %s is made new, %s starts empty", p.Name, a.Name, b.Name)
	return a.Initialize(ctx)
}

// createPair retries while the witness elects its first leader.
func (f *Fleet) createPair(ctx context.Context, p *Pair) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		out, err := f.Ctl(ctx, "pair", "create", p.Name, "--host", p.Hosts[0].Name+"=db",
			"--host", p.Hosts[1].Name+"=db", "--primary", p.Hosts[0].Name)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("create pair %s: %w: %s", p.Name, err, out)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// Endpoints are the nodes' API addresses.
func (f *Fleet) Endpoints() []string {
	var list []string
	for _, n := range f.Nodes {
		list = append(list, n.API)
	}
	return list
}

// Ctl runs witnessctl as a user would and returns what it printed.
func (f *Fleet) Ctl(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"--endpoint", strings.Join(f.Endpoints(), ",")}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, "witnessctl"), args...)
	var out []byte
	err := f.outside.inside(func() error {
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	return string(out), err
}

// Close ends every process of the fleet and removes its directory.
func (f *Fleet) Close() {
	for _, h := range f.hosts {
		h.Kill()
	}
	for _, n := range f.Nodes {
		n.Kill()
	}
	f.aside.Lock()
	for _, p := range f.others {
		p.kill()
	}
	f.aside.Unlock()
	killBelow(f.dir)
	f.network.close()
	for _, h := range f.hosts {
		if err := h.closeDisks(); err != nil {
			f.sayf("disks of %s: %v", h.Name, err)
		}
	}
	if f.opts.Keep {
		f.sayf("logs and data are left in %s", f.dir)
		return
	}
	// The last of the killed processes may still be letting go of files.
	for range 20 {
		if err := os.RemoveAll(f.dir); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// logTime is when a line with all of these words was first logged after since.
func logTime(path string, since time.Time, words []string) (time.Time, bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, false
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		stamp, rest, ok := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if !ok {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || at.Before(since.Truncate(time.Millisecond)) {
			continue
		}
		if all(rest, words) {
			return at, true
		}
	}
	return time.Time{}, false
}

func all(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// InstallPostgres makes sure that PostgreSQL's programs are there, and says what it does.
func InstallPostgres(ctx context.Context, log io.Writer) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "deploy", "ci", "install-postgres"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install PostgreSQL (as root, or install Debian's package postgresql yourself): %w", err)
	}
	return nil
}
