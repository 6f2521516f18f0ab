package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// target is a way to the servers.
type target struct {
	name             string
	postgres, source string // addresses
	pid              int    // of the proxy; 0: none
}

// stage is all that a run needs.
type stage struct {
	dir     string
	running []*process
	targets []target
}

// Targets, in the order of the table.
const (
	direct  = "direct"
	haproxy = "haproxy"
	spliced = "haproxy, splice-auto"
	ours    = "gate"
)

func setUp(ctx context.Context) (_ *stage, err error) {
	dir, err := os.MkdirTemp("", "gatebench-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	defer func() {
		if err != nil {
			s.tearDown()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		return nil, err
	}
	a, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	p, err := startPostgres(ctx, filepath.Join(dir), a[0])
	if err != nil {
		return nil, err
	}
	s.running = append(s.running, p)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := s.start("source", self, "-role", "source", a[1]); err != nil {
		return nil, err
	}
	s.targets = []target{{name: direct, postgres: a[0], source: a[1]}}
	for i, name := range []string{haproxy, spliced} {
		t := target{name: name, postgres: a[2+2*i], source: a[3+2*i]}
		if err := s.startHAProxy(&t, a[0], a[1], name == spliced); err != nil {
			return nil, err
		}
		s.targets = append(s.targets, t)
	}
	t := target{name: ours, postgres: a[6], source: a[7]}
	p, err = s.start("gate", self, "-role", "gate", a[6]+"="+a[0], a[7]+"="+a[1])
	if err != nil {
		return nil, err
	}
	t.pid = p.pid()
	s.targets = append(s.targets, t)
	for _, t := range s.targets {
		for _, address := range []string{t.postgres, t.source} {
			if err := awaitPort(ctx, address); err != nil {
				return nil, fmt.Errorf("%s: %w: %s", t.name, err, s.logs(t.name))
			}
		}
	}
	return s, nil
}

func (s *stage) logs(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
	return string(b)
}

func (s *stage) start(name, program string, args ...string) (*process, error) {
	p, err := start(filepath.Join(s.dir, name+".log"), "", program, args...)
	if err == nil {
		s.running = append(s.running, p)
	}
	return p, err
}

// haproxyConfig is what its manual recommends for passing TCP: one thread per processor is its default.
const haproxyConfig = `global
    maxconn 6000
defaults
    mode tcp
    maxconn 6000
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    option clitcpka
    option srvtcpka
{{- if .Splice}}
    option splice-auto
{{- end}}
listen postgres
    bind {{.Postgres}}
    server one {{.PostgresServer}}
listen source
    bind {{.Source}}
    server one {{.SourceServer}}
`

func (s *stage) startHAProxy(t *target, postgres, source string, splice bool) error {
	var text strings.Builder
	err := template.Must(template.New("").Parse(haproxyConfig)).Execute(&text, map[string]any{
		"Splice": splice, "Postgres": t.postgres, "Source": t.source, "PostgresServer": postgres, "SourceServer": source,
	})
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, fmt.Sprintf("haproxy-%t.cfg", splice))
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		return err
	}
	p, err := s.start(t.name, "haproxy", "-db", "-f", file)
	if err != nil {
		return err
	}
	t.pid = p.pid()
	return nil
}

func (s *stage) tearDown() {
	for _, p := range slices.Backward(s.running) {
		p.stop()
	}
	_ = os.RemoveAll(s.dir)
}
