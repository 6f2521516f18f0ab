package raftstore

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

func TestQuorum(t *testing.T) {
	const self = "a"
	voters := func(ids ...string) (all []raft.Server) {
		for _, id := range ids {
			suffrage := raft.Voter
			if id, ok := strings.CutPrefix(id, "-"); ok {
				all = append(all, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter})
				continue
			}
			all = append(all, raft.Server{ID: raft.ServerID(id), Suffrage: suffrage})
		}
		return all
	}
	type answer struct {
		from         raft.ServerID
		term, number uint64
	}
	// Numbers up to 100 have been given out when the question is asked, in term 5.
	tests := map[string]struct {
		servers []raft.Server
		answers []answer
		want    uint64
	}{
		"nobody":                        {want: 0},
		"alone":                         {voters("a"), nil, 100},
		"alone with a nonvoter":         {voters("a", "-b"), nil, 100},
		"nobody has answered":           {voters("a", "b", "c"), nil, 0},
		"the faster of two":             {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 20},
		"one of two is enough":          {voters("a", "b", "c"), []answer{{"c", 5, 20}}, 20},
		"of two, both":                  {voters("a", "b"), []answer{{"b", 5, 10}}, 10},
		"of four, three":                {voters("a", "b", "c", "d"), []answer{{"b", 5, 10}, {"c", 5, 20}, {"d", 5, 30}}, 20},
		"of five, three":                {voters("a", "b", "c", "d", "e"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"of five, two":                  {voters("a", "b", "c", "d", "e"), []answer{{"b", 5, 10}}, 0},
		"a nonvoter":                    {voters("a", "b", "-c", "d"), []answer{{"c", 5, 20}}, 0},
		"this node has no vote":         {voters("-a", "b", "c"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"this node was removed":         {voters("b", "c", "d"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"an earlier term":               {voters("a", "b", "c"), []answer{{"b", 4, 10}}, 0},
		"an earlier term, later":        {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 4, 99}}, 10},
		"a later term":                  {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 6, 99}}, 0},
		"answers out of order":          {voters("a", "b", "c"), []answer{{"b", 5, 30}, {"b", 5, 10}}, 30},
		"somebody who was a member":     {voters("a", "b", "c"), []answer{{"z", 5, 99}}, 0},
		"a former leader's own answers": {voters("b", "c", "d"), []answer{{"a", 5, 99}}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var c confirmations
			c.sequence.Store(100)
			for _, a := range test.answers {
				c.accepted(a.from, a.term, a.number, 0)
			}
			if got := c.quorum(test.servers, self, 5); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// Between losing the leadership and hearing of it, the node must find out by itself.
func TestConfirmedLooksAtRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := alone(t, newRecord())
		defer s.Close()
		term := s.raft.CurrentTerm()
		if _, leading := s.Confirmed(term); !leading {
			t.Fatal("not confirmed")
		}
		tests := map[string]uint64{"another term": term - 1, "a later term": term + 1}
		for name, wrong := range tests {
			s.mu.Lock()
			s.reign.term = wrong
			s.mu.Unlock()
			if _, leading := s.Confirmed(wrong); leading {
				t.Errorf("confirmed in %s", name)
			}
		}
		s.mu.Lock()
		s.reign.term = term
		s.mu.Unlock()
		if err := s.raft.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
		news := make(chan struct{}) // it has heard; pretend that it has not
		s.mu.Lock()
		s.reign = &reign{over: news, term: term}
		s.mu.Unlock()
		if _, leading := s.Confirmed(term); leading {
			t.Error("confirmed although it does not lead any more")
		}
	})
}
