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

// What keeps the group from being changed as asked, for errors.Is.
var (
	// ErrBehind means that a node lacks entries, or that nobody knows whether it does. It ends the sentence.
	ErrBehind = errors.New("behind")

	// ErrUnreachable means that a node that was to be added does not answer; nothing was changed.
	ErrUnreachable = errors.New("does not answer")

	// ErrTransferring means that this node is handing over its leadership already.
	ErrTransferring = errors.New("the leadership is being handed over already")

	// ErrRemoved means that somebody removed the node while it was being added.
	ErrRemoved = errors.New("it was removed while it was being added")
)

// keptConnections is MaxPool of the transport.
const keptConnections = 4

// Reach asks a node that is to be added whether it is there, and is that node. A voter is not asked: where a
// member has moved to may be told before it runs there. Nothing is changed.
func (s *Store) Reach(ctx context.Context, add Server) error {
	if known, err := s.server(add.ID); err == nil && !known.Nonvoter {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.timing.RPC) // one to connect, one for the answer
	defer cancel()
	_, err := s.ask(ctx.Done(), func() (any, error) {
		var err error
		// A connection that was kept may be to a process that has ended: each failure uses up one of them.
		for range keptConnections + 1 {
			if err = s.greet(add); err == nil || ctx.Err() != nil {
				break
			}
		}
		return nil, err
	})
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("node %s %w at %s: %w", add.ID, ErrUnreachable, add.Address, err)
	}
	return nil
}

// greet asks for a pre-vote in a term that is long over. In raft v1.8.0 that changes nothing on any node, and
// unlike a connection alone its answer says who is there.
func (s *Store) greet(to Server) error {
	id, address := raft.ServerID(to.ID), raft.ServerAddress(to.Address)
	request := &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(s.id),
		Addr:            s.network.EncodePeer(s.id, s.network.LocalAddr()),
	}}
	return s.network.RequestPreVote(id, address, request, &raft.RequestPreVoteResponse{})
}

// AddServer adds a node that was started with an empty directory and without Bootstrap, or gives a member
// another address. The node first receives all entries without having a vote: as a voter that knows nothing
// it would count toward the quorum and could not fill it. If it does not catch up some time before ctx ends,
// it is taken out again: a nonvoter left behind would be tried for ever by the leader and noticed by nobody.
// Only the leader can do it. ErrNotLeader means that nothing was changed, also when the leader is lost
// meanwhile: whoever repeats the call on it must not bring back what somebody has removed since.
func (s *Store) AddServer(ctx context.Context, add Server) error {
	known, err := s.server(add.ID)
	if err != nil || known.Nonvoter {
		if s.raft.State() != raft.Leader {
			return ErrNotLeader
		}
		if err := s.Reach(ctx, add); err != nil {
			return err
		}
		working, cancel := s.withRoom(ctx)
		defer cancel()
		if err := s.takeIn(working, add); err != nil {
			return s.takeOut(ctx, add.ID, err)
		}
		return nil
	}
	if add.Nonvoter {
		return nil
	}
	return s.enfranchise(ctx, add, 0)
}

// withRoom ends a while before ctx does, for there must be time left to undo what came to nothing and to say so.
func (s *Store) withRoom(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	room := min(3*s.timing.RPC, deadline.Sub(now())/2)
	return context.WithDeadline(ctx, deadline.Add(-room))
}

// takeIn makes a node a member, waits until it has caught up, and gives it a vote if it is to have one.
func (s *Store) takeIn(ctx context.Context, add Server) error {
	id, address := raft.ServerID(add.ID), raft.ServerAddress(add.Address)
	added, err := s.change(ctx, func() raft.IndexFuture {
		return s.raft.AddNonvoter(id, address, 0, s.timing.RPC)
	})
	if err != nil {
		return fmt.Errorf("add node %s: %w", add.ID, err)
	}
	term := s.raft.CurrentTerm()
	if err := s.caughtUp(ctx, id, added); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", s.lag(id, term, added), err)
		}
		return heard(fmt.Errorf("node %s has not caught up: %w", add.ID, err))
	}
	if add.Nonvoter {
		return nil
	}
	// The vote is for the member that caught up: with the index of the configuration that names it, raft
	// refuses if somebody removes it in between.
	future := s.raft.GetConfiguration() // resolved when it is returned
	if err := future.Error(); err != nil {
		return heard(fmt.Errorf("give node %s a vote: %w", add.ID, err))
	}
	if !slices.ContainsFunc(future.Configuration().Servers, func(m raft.Server) bool { return m.ID == id }) {
		return fmt.Errorf("give node %s a vote: %w", add.ID, ErrRemoved)
	}
	return heard(s.enfranchise(ctx, add, future.Index()))
}

// enfranchise gives a node a vote. Unless previous is zero, the configuration at that index must be the newest.
func (s *Store) enfranchise(ctx context.Context, add Server, previous uint64) error {
	index, err := s.change(ctx, func() raft.IndexFuture {
		return s.raft.AddVoter(raft.ServerID(add.ID), raft.ServerAddress(add.Address), previous, s.timing.RPC)
	})
	if err != nil {
		return fmt.Errorf("give node %s a vote: %w", add.ID, err)
	}
	s.tellAll(ctx, index)
	return nil
}

// heard is an error after something was changed: it must not read as if nothing was.
func heard(err error) error {
	if errors.Is(err, ErrNotLeader) || errors.Is(err, ErrTooBusy) {
		return fmt.Errorf("%w: %s", ErrOutcomeUnknown, err.Error()) // its text, without what it is
	}
	return err
}

// takeOut removes a node that could not be added, and returns why it could not. It uses what is left of ctx's
// time, and some when the caller has gone away: only now does anybody know that this has to be done.
func (s *Store) takeOut(ctx context.Context, id string, why error) error {
	known, err := s.server(id)
	if err != nil || !known.Nonvoter || s.raft.State() != raft.Leader {
		return why
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.timing.RPC)
	defer cancel()
	if err := s.RemoveServer(undo, id); err != nil {
		return fmt.Errorf("%w; it is still a member, without a vote: %s", why, err.Error())
	}
	if !errors.Is(why, ErrBehind) {
		return why
	}
	return fmt.Errorf("%w; it was taken out again", why)
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

// caughtUp waits until the member's log has the entry at index.
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
		if _, err := s.server(string(id)); err != nil {
			return ErrRemoved
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

// A transfer that raft is asked for stops every proposal until it ends. In raft v1.8.0, one to a node that
// lacks entries and is in replication's back-off of up to ten seconds times out, and the next attempt then
// holds the leader in it for as long as the back-off lasts. So raft is asked only for what will succeed, and
// until then proposals go on.

// fewEntries may be on their way to a node that keeps up. One that lacks more is refused without a wait.
const fewEntries = 64

// TransferLeadership has another node elected: the one named, or if to is empty the one that is furthest. It
// returns when this node has stepped down, or with an error when it still leads: ErrBehind, within an election
// time-out, if the other lacks entries or does not answer.
func (s *Store) TransferLeadership(ctx context.Context, to string) error {
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	candidates, err := s.candidates(to)
	if err != nil {
		return err
	}
	target, err := s.furthest(ctx, candidates)
	if err != nil {
		return err
	}
	err = s.do(ctx, func() error { return s.raft.LeadershipTransferToServer(target.ID, target.Address).Error() })
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		// Raft's main goroutine lets one in at a time; the place before it is taken by another.
		return ErrTransferring
	case err != nil:
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return nil
}

// candidates are the nodes that the leadership may go to.
func (s *Store) candidates(to string) ([]raft.Server, error) {
	if to == "" {
		all := slices.DeleteFunc(slices.Clone(s.configuration().Servers), func(m raft.Server) bool {
			return m.ID == s.id || m.Suffrage != raft.Voter
		})
		if len(all) == 0 {
			return nil, errors.New("there is no other node that has a vote")
		}
		return all, nil
	}
	target, err := s.server(to)
	switch {
	case err != nil:
		return nil, err
	case target.Nonvoter:
		return nil, fmt.Errorf("node %s has no vote and cannot lead", to)
	case to == string(s.id):
		return nil, fmt.Errorf("node %s leads already", to)
	}
	return []raft.Server{target.raft()}, nil
}

// furthest returns the candidate that has most, among those that have all that this node has now and answer
// a message that is begun after this call. That takes a moment at most while replication works; after an
// election time-out, or at once if all lack too much, it says how far they are behind.
func (s *Store) furthest(ctx context.Context, candidates []raft.Server) (raft.Server, error) {
	term, last, mark := s.raft.CurrentTerm(), s.raft.LastIndex(), s.Mark()
	patience, cancel := context.WithTimeout(ctx, s.timing.Election)
	defer cancel()
	for {
		changed := s.confirm.changed.rung()
		var best raft.Server
		most, hopeless := uint64(0), true
		for _, c := range candidates {
			a := s.confirm.of(c.ID, term)
			if a.send > mark && a.match >= last && a.match > most {
				best, most = c, a.match
			}
			// What a node has is not known before it has accepted an entry of this term.
			hopeless = hopeless && a.match > 0 && a.match+fewEntries < last
		}
		switch {
		case s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term:
			return best, ErrNotLeader
		case most > 0:
			return best, nil
		case hopeless:
			return best, s.allBehind(candidates, term, last)
		}
		select {
		case <-changed:
		case <-patience.Done():
			if ctx.Err() != nil {
				return best, context.Cause(ctx)
			}
			return best, s.allBehind(candidates, term, last)
		case <-s.closing:
			return best, ErrClosed
		}
	}
}

func (s *Store) allBehind(candidates []raft.Server, term, last uint64) error {
	err := s.lag(candidates[0].ID, term, last)
	for _, c := range candidates[1:] {
		err = fmt.Errorf("%w, %w", err, s.lag(c.ID, term, last))
	}
	return err
}

// lag says how far a node is behind the entry at last.
func (s *Store) lag(id raft.ServerID, term, last uint64) error {
	match := s.confirm.of(id, term).match
	switch {
	case match == 0:
		return fmt.Errorf("%s has taken nothing from this leader yet and may be far %w", id, ErrBehind)
	case match >= last:
		return fmt.Errorf("%s does not answer and may be %w", id, ErrBehind)
	case last-match == 1:
		return fmt.Errorf("%s is 1 entry %w", id, ErrBehind)
	default:
		return fmt.Errorf("%s is %d entries %w", id, last-match, ErrBehind)
	}
}
