package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// transport is raft's own network transport, with three things added: sends are numbered, for
// confirmations; an answer counts only if it comes from the node that was asked; and heartbeats do not
// meet an election that is under way.
type transport struct {
	*raft.NetworkTransport
	confirm *confirmations
	peers   *contacts

	// raft takes its requests from here: those of the network, and the heartbeats that heartbeat sends on.
	requests chan raft.RPC
	raft     atomic.Pointer[raft.Raft] // set once it runs

	closing   chan struct{}
	closeOnce sync.Once
	forwarder sync.WaitGroup

	// handling counts the heartbeats that are being handled. Close waits for them, so that no goroutine of a
	// connection, which raft does not wait for, writes to a store that is closed.
	mu       sync.Mutex
	handling sync.WaitGroup // none is added once closed is set
	closed   bool
}

func newTransport(inner *raft.NetworkTransport, confirm *confirmations, peers *contacts) *transport {
	t := &transport{
		NetworkTransport: inner,
		confirm:          confirm,
		peers:            peers,
		requests:         make(chan raft.RPC),
		closing:          make(chan struct{}),
	}
	t.forwarder.Go(t.forward)
	return t
}

// AppendEntries carries heartbeats too; raft calls it concurrently, on the goroutines of each peer.
func (t *transport) AppendEntries(
	id raft.ServerID, address raft.ServerAddress,
	request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse,
) error {
	// Raft uses a response again and again; what an earlier call left in it must not pass for an answer.
	*response = raft.AppendEntriesResponse{}
	number := t.confirm.number()
	err := t.NetworkTransport.AppendEntries(id, address, request, response)
	if err == nil {
		err = answeredBy(id, address, response.RPCHeader)
	}
	t.peers.note(id, err)
	if err != nil {
		return err
	}
	if response.Success && response.Term == request.Term {
		match := request.PrevLogEntry
		if n := len(request.Entries); n > 0 {
			match = request.Entries[n-1].Index
		}
		t.confirm.accepted(id, request.Term, number, match)
	}
	return nil
}

// AppendEntriesPipeline is refused for good. A pipeline would send past the numbering above, and it leaves
// a follower whose disk failed for a moment without entries for ever (hashicorp/raft issue 612).
func (t *transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *transport) RequestVote(
	id raft.ServerID, address raft.ServerAddress,
	request *raft.RequestVoteRequest, response *raft.RequestVoteResponse,
) error {
	if err := t.NetworkTransport.RequestVote(id, address, request, response); err != nil {
		return err
	}
	return answeredBy(id, address, response.RPCHeader)
}

func (t *transport) RequestPreVote(
	id raft.ServerID, address raft.ServerAddress,
	request *raft.RequestPreVoteRequest, response *raft.RequestPreVoteResponse,
) error {
	if err := t.NetworkTransport.RequestPreVote(id, address, request, response); err != nil {
		return err
	}
	return answeredBy(id, address, response.RPCHeader)
}

// answeredBy refuses the answer of another node than the one that was asked. Raft counts by the name in its
// configuration, so with a wrong entry in the DNS one node would be counted twice and be a quorum of two.
func answeredBy(id raft.ServerID, address raft.ServerAddress, header raft.RPCHeader) error {
	if got := raft.ServerID(header.ID); got != id {
		return fmt.Errorf("%s should be node %q and says it is node %q", address, id, got)
	}
	return nil
}

// Consumer is where raft's main goroutine takes its requests from.
func (t *transport) Consumer() <-chan raft.RPC { return t.requests }

func (t *transport) forward() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			t.hand(rpc)
		case <-t.closing:
			return
		}
	}
}

func (t *transport) hand(rpc raft.RPC) {
	select {
	case t.requests <- rpc:
	case <-t.closing: // the connection's goroutine stops waiting for the answer by itself
	}
}

// SetHeartbeatHandler is called by raft with the function that answers heartbeats at once, on the
// goroutine of their connection, so that a follower whose disk is slow does not lose its leader.
//
// That function is safe only while it need not change anything but the time of the last contact. To write a
// term, it waits for the disk, while the main goroutine may write a higher one for an election; the term
// then goes back, and a node that wins that election at that moment leads the term of another leader (raft
// v1.8.0; TestChaosOfDisks found it within seconds). So only a follower's heartbeats of its own term go
// there. All others go to the main goroutine, in turn with elections. What is left of the race, an election
// that begins between the look here and the look there, is what disk.raise is for.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !t.changesNothing(rpc) {
			t.hand(rpc)
			return
		}
		t.heartbeat(rpc, handle)
	})
}

func (t *transport) changesNothing(heartbeat raft.RPC) bool {
	r := t.raft.Load()
	request, ok := heartbeat.Command.(*raft.AppendEntriesRequest)
	return r != nil && ok && r.State() == raft.Follower && r.CurrentTerm() == request.Term
}

func (t *transport) heartbeat(rpc raft.RPC, handle func(raft.RPC)) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.handling.Add(1)
	t.mu.Unlock()
	defer t.handling.Done()
	handle(rpc)
}

// Close is called by Store.Close and by raft when it is shut down.
func (t *transport) Close() error {
	var err error
	t.closeOnce.Do(func() {
		close(t.closing)
		err = t.NetworkTransport.Close()
		t.NetworkTransport.CloseStreams()
		t.forwarder.Wait()
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
		t.handling.Wait()
	})
	return err
}
