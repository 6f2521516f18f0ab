package sqlservertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/tds"
)

// run is one run of an instance, from its start to its end.
type run struct {
	options  Options // with the ports that it got
	password string
	user     string
	model    *model.Instance
	server   *tds.Server
	knobs    *Knobs

	serving sync.WaitGroup
	mu      sync.Mutex
	listen  net.Listener // nil while the port is closed
	totals  totals
	over    bool
	ended   chan struct{}
}

// begin starts an instance on what is in its directory.
func begin(ctx context.Context, o Options) (*run, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Endpoint == "" {
		o.Endpoint = "127.0.0.1:0"
	}
	if o.Login == "" {
		o.Login = DefaultLogin
	}
	i := &run{options: o, ended: make(chan struct{})}
	i.user, i.password, _ = strings.Cut(o.Login, ":")
	endpoint := o.Endpoint
	if endpoint == NoEndpoint {
		endpoint = ""
	}
	m, err := model.Open(model.Options{
		Name: o.Name, Dir: filepath.Join(o.Dir, "databases"), Endpoint: endpoint, EndpointRole: o.EndpointRole,
		Ping: o.Ping, Second: o.Second, Quiet: o.Quiet,
	})
	if err != nil {
		return nil, err
	}
	i.model = m
	i.knobs = newKnobs(m, func(open bool) error { return i.setListener(ctx, open) })
	i.server = &tds.Server{Name: o.Name, Login: i.newSession, Gate: i.knobs.gate, TLS: o.TLS}
	if err := i.setListener(ctx, true); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if endpoint != "" {
		i.options.Endpoint = m.EndpointAddress()
	}
	return i, nil
}

// setListener opens or closes the clients' port.
func (i *run) setListener(ctx context.Context, open bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.over || open == (i.listen != nil):
		return nil
	case !open:
		err := i.listen.Close()
		i.listen = nil
		return err
	}
	l, err := net.Listen("tcp", i.options.Listen)
	if err != nil {
		return fmt.Errorf("open the clients' port of %s: %w", i.options.Name, err)
	}
	i.listen, i.options.Listen = l, l.Addr().String()
	i.serving.Go(func() {
		//nolint:errcheck // it ends when the listener is closed; clients see everything else
		i.server.Serve(ctx, l)
	})
	return nil
}

func (i *run) admits(user, password string) bool {
	return strings.EqualFold(user, i.user) && password == i.password
}

// Name is @@SERVERNAME.
func (i *run) Name() string { return i.options.Name }

func (i *run) address() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.options.Listen
}

// crash ends the run. What is acknowledged is on the disk already, so that an orderly end differs in nothing that
// outlives it.
func (i *run) crash() {
	i.mu.Lock()
	first := !i.over
	i.over = true
	l := i.listen
	i.listen = nil
	i.mu.Unlock()
	if !first {
		<-i.ended
		return
	}
	if l != nil {
		//nolint:errcheck // the port is gone either way
		l.Close()
	}
	// Clients first: they see the connection end, and not that the databases are gone.
	i.server.Drop()
	i.model.Crash()
	i.server.Close()
	i.serving.Wait()
	close(i.ended)
}
