package raftstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Options say what Open opens.
type Options struct {
	ID      string      // names this node in the group; a node that lost its directory takes a new one
	Dir     string      // is this node's alone; made if it is missing
	Stream  StreamLayer // belongs to the store from here on: closed with it, and when Open fails
	Machine Machine     // is empty; Open brings it to the newest snapshot
	Logger  *slog.Logger

	// Bootstrap lists the first members of a new group, this node among them. Each of them may be started
	// with the same list, any number of times: it counts only where there is no state yet. Without a list,
	// a node without state waits to be added.
	//
	// A member whose directory was emptied must not be started with a list again: it would vote as if it had
	// never voted, and a quorum with it could lack entries that were accepted.
	Bootstrap []Server

	Timing       Timing // zero: DefaultTiming
	TrailingLogs uint64 // entries kept behind a snapshot, for nodes that were away; zero: 10240

	// OnFault is called, at most once, when the disk hangs or fails: see disk.go for which cases. It should
	// end the process, with a message and an exit code of its own, and without Close, which would wait for
	// that same disk. It must not return where that can be helped: raft then panics, hangs, or, after a
	// write that failed, goes on trying. Nil panics.
	OnFault    func(error)
	StallLimit time.Duration // how long a call to the disk may take; zero: 2 s

	Stores *Stores // instead of files in Dir, for tests
}

const defaultStallLimit = 2 * time.Second

func (o *Options) complete() error {
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming()
	}
	o.StallLimit = cmp.Or(o.StallLimit, defaultStallLimit)
	if o.OnFault == nil {
		o.OnFault = func(err error) { panic(err) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.ID == "":
		return errors.New("the node needs a name")
	case o.Machine == nil, o.Stream == nil:
		return errors.New("the node needs a machine and a stream layer")
	case o.Dir == "" && o.Stores == nil:
		return errors.New("the node needs a data directory")
	}
	if err := o.Timing.Validate(); err != nil {
		return err
	}
	self := slices.IndexFunc(o.Bootstrap, func(s Server) bool { return s.ID == o.ID })
	switch address := o.Stream.Addr().String(); {
	case len(o.Bootstrap) == 0:
		return nil
	case self < 0:
		return fmt.Errorf("node %q is not among the first members of the group", o.ID)
	case o.Bootstrap[self].Address != address:
		return fmt.Errorf("node %q advertises %s, and is %s among the first members of the group",
			o.ID, address, o.Bootstrap[self].Address)
	}
	return nil
}

// Store is one node's part of the replicated log. Its methods may be called from any goroutine.
type Store struct {
	id      raft.ServerID
	timing  Timing
	raft    *raft.Raft
	fsm     *fsm
	log     raft.LogStore
	disk    *disk
	stores  *Stores
	network *transport
	peers   *contacts
	confirm *confirmations
	stall   time.Duration

	mu       sync.Mutex
	reign    *reign         // nil while this node does not lead
	requests sync.WaitGroup // goroutines that wait for raft; none is added once closed is set
	closed   bool

	reigns    bell          // rings when reign or its term has changed
	closing   chan struct{} // closed when Close begins
	watcher   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open starts this node. It returns before there is a leader.
func Open(o Options) (*Store, error) {
	if o.Stream == nil {
		return nil, errors.New("the node needs a stream layer")
	}
	layer := newStreams(o.Stream)
	s, err := open(o, layer)
	if err != nil {
		return nil, errors.Join(err, layer.Close())
	}
	return s, nil
}

func open(o Options, layer *streams) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	logger := newRaftLog(o.Logger)
	stores := o.Stores
	if stores == nil {
		if err := checkFormat(o.Dir); err != nil {
			return nil, err
		}
		var err error
		if stores, err = openStores(o.Dir, logger); err != nil {
			return nil, err
		}
	}
	s := &Store{
		id:      raft.ServerID(o.ID),
		timing:  o.Timing,
		stores:  stores,
		peers:   &contacts{log: o.Logger, peers: make(map[raft.ServerID]contact)},
		confirm: &confirmations{},
		stall:   o.StallLimit,
		closing: make(chan struct{}),
	}
	s.fsm = &fsm{machine: o.Machine, members: &s.confirm.changed}
	var once sync.Once
	s.disk = newDisk(o.StallLimit, func(err error) { once.Do(func() { o.OnFault(err) }) })
	s.network = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          layer,
		Logger:          logger,
		MaxPool:         4, // to each node: entries, heartbeats and votes at once
		MaxRPCsInFlight: 1, // no pipeline
		Timeout:         o.Timing.RPC,
	}), s.confirm, s.peers)
	if err := s.start(o, logger); err != nil {
		return nil, errors.Join(err, s.network.Close(), stores.Close())
	}
	return s, nil
}

func (s *Store) start(o Options, logger *raftLog) error {
	config := raft.DefaultConfig()
	config.LocalID = s.id
	config.Logger = logger
	config.HeartbeatTimeout = o.Timing.Heartbeat
	config.ElectionTimeout = o.Timing.Election
	config.LeaderLeaseTimeout = o.Timing.LeaderLease
	config.CommitTimeout = o.Timing.Commit
	config.MaxAppendEntries = 512
	config.BatchApplyCh = true
	config.NoLegacyTelemetry = true
	config.ShutdownOnRemove = false // a node that was removed goes on showing its state
	config.TrailingLogs = cmp.Or(o.TrailingLogs, config.TrailingLogs)

	cache, err := raft.NewLogCache(config.MaxAppendEntries, watchedLog{log: s.stores.Log, disk: s.disk})
	if err != nil {
		return err
	}
	s.log = cache
	stable := newWatchedStable(s.stores.Stable, s.disk)
	if err := s.bootstrap(config, stable, o.Bootstrap); err != nil {
		return err
	}
	// Raft panics over entries that it misses, as when it has to go back to an older snapshot because the machine
	// refuses the newest.
	err = protect(func() (err error) {
		s.raft, err = raft.NewRaft(config, s.fsm, s.log, stable, s.stores.Snapshots, s.network)
		return err
	})
	if err != nil && s.fsm.refused != nil {
		return fmt.Errorf("start raft: %w (%w)", err, s.fsm.refused)
	}
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	s.network.raft.Store(s.raft)
	s.watcher.Go(func() { s.watchLeadership(s.raft.LeaderCh()) })
	return nil
}

// bootstrap writes the first entry of a new group: its members. Every node writes the same one.
func (s *Store) bootstrap(config *raft.Config, stable raft.StableStore, first []Server) error {
	exists, err := raft.HasExistingState(s.log, stable, s.stores.Snapshots)
	if err != nil {
		return fmt.Errorf("look for an earlier state: %w", err)
	}
	if exists || len(first) == 0 {
		return nil
	}
	servers := make([]raft.Server, 0, len(first))
	for _, m := range first {
		servers = append(servers, m.raft())
	}
	slices.SortFunc(servers, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	err = raft.BootstrapCluster(config, s.log, stable, s.stores.Snapshots, s.network,
		raft.Configuration{Servers: servers})
	if err != nil {
		return fmt.Errorf("begin a new group: %w", err)
	}
	return nil
}

// Close stops this node and waits until everything of it has ended. A leader that wants to leave without a
// gap calls TransferLeadership first.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	s.watcher.Wait()

	// Raft answers what it was asked before it is shut down; afterwards it may leave some of it unanswered.
	// On a disk that hangs it answers nothing, and then it is better to leave goroutines behind.
	answered := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(s.stall):
	}

	stopped := s.raft.Shutdown()
	err := s.network.Close() // ends the calls to other nodes that raft waits for
	err = errors.Join(err, stopped.Error())
	s.disk.close()
	return errors.Join(err, s.stores.Close())
}
