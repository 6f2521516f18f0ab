package sqlservertest

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// Options are what an instance is started with.
type Options struct {
	Name     string // @@SERVERNAME; "" for sqlN
	Dir      string // everything that survives a crash; "" for a temporary directory of the test's
	Listen   string // where clients connect, host:port; "" for a free port of the loopback
	Endpoint string // the mirroring endpoint, host:port; "" for a free port of the loopback, "none" for no endpoint
	// EndpointRole is PARTNER, WITNESS or ALL; "" for ALL.
	EndpointRole string
	// Ping is how often connections between instances are pinged; 0 for a second, as SQL Server does.
	Ping time.Duration
	// Second is how long a second of PARTNER TIMEOUT takes; 0 for a second.
	Second time.Duration
	// Quiet is how long after its start the instance looks for nobody.
	Quiet time.Duration
	// Login is user:password; "" for sa:fake.
	Login string
	// TLS lets clients demand encryption (encrypt=true or strict); nil for plain connections only.
	TLS *tls.Config
}

// DefaultLogin is the login of an instance whose options name none.
const DefaultLogin = "sa:fake"

// NoEndpoint as Options.Endpoint starts an instance that takes no part in mirroring.
const NoEndpoint = "none"

// Instance is a fake instance. It stays the same when it is started again.
type Instance struct {
	mu  sync.Mutex
	now *run // the last, if it has ended
}

// Open starts an instance on what is in its directory. It must be closed.
func Open(ctx context.Context, o Options) (*Instance, error) {
	r, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Instance{now: r}, nil
}

func (i *Instance) run() *run {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

// Name is @@SERVERNAME.
func (i *Instance) Name() string { return i.run().options.Name }

// Address is where clients connect, host:port.
func (i *Instance) Address() string { return i.run().address() }

// Endpoint is the mirroring endpoint as SET PARTNER takes it, TCP://host:port.
func (i *Instance) Endpoint() string { return "TCP://" + i.run().options.Endpoint }

// Knobs break the instance. They are of its present run: ask again after Restart.
func (i *Instance) Knobs() *Knobs { return i.run().knobs }

// Model is what lies below the wire, of the present run.
func (i *Instance) Model() *model.Instance { return i.run().model }

// Ended is closed when the present run has ended, by Close, by Crash, or by SHUTDOWN.
func (i *Instance) Ended() <-chan struct{} { return i.run().ended }

// Crash ends the instance as kill -9 does. It returns when nothing of it is left.
func (i *Instance) Crash() { i.run().crash() }

// Close ends the instance as SHUTDOWN does.
func (i *Instance) Close() error {
	i.run().crash()
	return nil
}
