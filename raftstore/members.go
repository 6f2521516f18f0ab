package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// Server is a member of the group.
type Server struct {
	ID       string
	Address  string // as the other nodes dial it
	Nonvoter bool   // receives entries and has no vote: it is being added
}

func (s Server) raft() raft.Server {
	suffrage := raft.Voter
	if s.Nonvoter {
		suffrage = raft.Nonvoter
	}
	return raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address), Suffrage: suffrage}
}

func fromRaft(s raft.Server) Server {
	return Server{ID: string(s.ID), Address: string(s.Address), Nonvoter: s.Suffrage != raft.Voter}
}

// configuration is the newest one in this node's log, committed or not: that is the one raft counts by.
func (s *Store) configuration() raft.Configuration {
	// This future is resolved when it is returned.
	future := s.raft.GetConfiguration()
	if future.Error() != nil {
		return raft.Configuration{}
	}
	return future.Configuration()
}

// Servers returns the members of the group as this node knows them.
func (s *Store) Servers() []Server {
	var all []Server
	for _, m := range s.configuration().Servers {
		all = append(all, fromRaft(m))
	}
	return all
}

func (s *Store) server(id string) (Server, error) {
	all := s.Servers()
	i := slices.IndexFunc(all, func(m Server) bool { return m.ID == id })
	if i < 0 {
		return Server{}, fmt.Errorf("%w: %s", ErrUnknownServer, id)
	}
	return all[i], nil
}

// AddServer adds a node that was started with an empty directory and without Bootstrap, or gives a member
// another address. The node first receives all entries without having a vote: as a voter that knows nothing
// it would count toward the quorum and could not fill it. If ctx ends before it has caught up, it stays a
// member without a vote, and the same call goes on where this one stopped. Only the leader can do it.
func (s *Store) AddServer(ctx context.Context, add Server) error {
	id, address := raft.ServerID(add.ID), raft.ServerAddress(add.Address)
	known, err := s.server(add.ID)
	if err != nil || known.Nonvoter {
		added, err := s.change(ctx, func() raft.IndexFuture {
			return s.raft.AddNonvoter(id, address, 0, s.timing.RPC)
		})
		if err != nil {
			return fmt.Errorf("add node %s: %w", add.ID, err)
		}
		if err := s.caughtUp(ctx, id, added); err != nil {
			return fmt.Errorf("node %s is a member without a vote: it has not caught up: %w", add.ID, err)
		}
	}
	if add.Nonvoter {
		return nil
	}
	enfranchised, err := s.change(ctx, func() raft.IndexFuture {
		return s.raft.AddVoter(id, address, 0, s.timing.RPC)
	})
	if err != nil {
		return fmt.Errorf("give node %s a vote: %w", add.ID, err)
	}
	s.tellAll(ctx, enfranchised)
	return nil
}

// tellAll waits until every member has the entry at index, for as long as it takes one that can be reached.
// In raft v1.8.0, a member that has not heard that another has a vote refuses it its own; of three nodes, if
// the leader were lost now, the two others would elect nobody until it is back (TestAddServer met it).
func (s *Store) tellAll(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, s.timing.RPC)
	defer cancel()
	for _, m := range s.configuration().Servers {
		if m.ID != s.id && s.caughtUp(ctx, m.ID, index) != nil {
			return
		}
	}
}

// caughtUp waits until the node's log has the entry at index.
func (s *Store) caughtUp(ctx context.Context, id raft.ServerID, index uint64) error {
	term := s.raft.CurrentTerm()
	for {
		changed := s.confirm.changed.rung()
		switch {
		case s.confirm.of(id, term).match >= index:
			return nil
		case s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term:
			return ErrNotLeader
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closing:
			return ErrClosed
		}
	}
}

// RemoveServer takes a node out of the group, also one that is not there any more. A leader that removes
// itself steps down. Only the leader can do it.
func (s *Store) RemoveServer(ctx context.Context, id string) error {
	if _, err := s.server(id); err != nil {
		return err
	}
	_, err := s.change(ctx, func() raft.IndexFuture {
		return s.raft.RemoveServer(raft.ServerID(id), 0, s.timing.RPC)
	})
	if err != nil {
		return fmt.Errorf("remove node %s: %w", id, err)
	}
	return nil
}

// change asks for a change of the group, waits until it is committed, and returns where it is in the log.
func (s *Store) change(ctx context.Context, request func() raft.IndexFuture) (index uint64, err error) {
	if s.raft.State() != raft.Leader {
		return 0, ErrNotLeader
	}
	done, err := s.ask(ctx.Done(), func() (any, error) {
		future := request()
		err := future.Error()
		switch {
		case err == nil:
			return future.Index(), nil
		case errors.Is(err, raft.ErrNotLeader),
			errors.Is(err, raft.ErrLeadershipLost),
			errors.Is(err, raft.ErrEnqueueTimeout),
			errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return nil, proposalError(err)
		}
		return nil, err // raft refuses the change, and says why
	})
	if err != nil {
		return 0, gaveUp(ctx, err)
	}
	return done.(uint64), nil
}

// TransferLeadership has another node elected: the one named, or if to is empty the one that is furthest. It
// returns when this node has stepped down, or with an error when it still leads.
func (s *Store) TransferLeadership(ctx context.Context, to string) error {
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	request := s.raft.LeadershipTransfer
	if to != "" {
		target, err := s.server(to)
		switch {
		case err != nil:
			return err
		case target.Nonvoter:
			return fmt.Errorf("node %s has no vote and cannot lead", to)
		case to == string(s.id):
			return fmt.Errorf("node %s leads already", to)
		}
		m := target.raft()
		request = func() raft.Future { return s.raft.LeadershipTransferToServer(m.ID, m.Address) }
	}
	err := s.do(ctx, func() error { return request().Error() })
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case err != nil:
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return nil
}
