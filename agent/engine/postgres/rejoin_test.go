//go:build linux

package postgres

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// rejoin follows the partner and returns the steps that it took.
func (h *host) rejoin(partner *host) string {
	h.t.Helper()
	var steps []string
	err := h.Follow(within(h.t, ample), partner.peer(), func(p engine.Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
	})
	check(h.t, err)
	if got := h.see(); !got.Following || !got.Promotable {
		h.t.Errorf("%s: %+v", h.name, got)
	}
	return strings.Join(steps, " ")
}

// hasRows waits until the host's copy has so many rows.
func (h *host) hasRows(want string) {
	h.t.Helper()
	c := h.client()
	eventually(h.t, h.name+" has "+want+" rows", func() error {
		if got := c.one("select count(*) from t"); got != want {
			return errors.New(got)
		}
		return nil
	})
}

// diverge makes b the primary while a has a row that b never got.
func diverge(t *testing.T, a, b *host) {
	t.Helper()
	a.client().must("insert into t values (1)")
	b.hasRows("1")
	check(t, b.Stop(within(t, ample)))
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("insert into t select generate_series(1, 1000)")
	a.crash()
	b.serve(a)
	check(t, b.ReleaseCommits(within(t, ample)))
	b.client().must("insert into t values (2)")
}

// TestHandOver: a clean hand-over proves that the mirror has everything; the old primary then attaches as it
// is, and takes over again in the same way.
func TestHandOver(t *testing.T) {
	a, b := newPair(t)
	for i, pair := range [][2]*host{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		from.client().must("insert into t values (1)")
		began := time.Now()
		got, err := from.HandOver(within(t, ample), to.peer())
		check(t, err)
		t.Logf("handed over in %v", time.Since(began))
		if !got.MirrorHasEverything || got.Final.Offset != to.see().Position.Offset {
			t.Fatalf("hand-over %d: %+v, the mirror has %v", i, got, to.see().Position)
		}
		to.serve(from)
		if steps := from.rejoin(to); steps != "attach catch-up" {
			t.Errorf("the old primary came back by %q", steps)
		}
		if n := from.client().one("select count(*) from pg_replication_slots"); n != "0" {
			t.Errorf("%s slots left on a mirror", n)
		}
	}
	a.hasRows("2")
	if got, err := a.HandOver(within(t, ample), b.peer()); err != nil {
		t.Errorf("the primary: %v", err)
	} else if !got.MirrorHasEverything {
		t.Errorf("%+v", got)
	}
}

// TestHandOverUnproved: without the mirror's word nothing is assumed.
func TestHandOverUnproved(t *testing.T) {
	a, b := newPair(t)
	check(t, b.Stop(within(t, ample)))
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("insert into t values (1)")
	got, err := a.HandOver(within(t, ample), b.peer())
	if err != nil || got.MirrorHasEverything || got.Final.Offset == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestRewind: what only the old primary has is undone and noted, its configuration stays.
func TestRewind(t *testing.T) {
	a, b := newPair(t)
	hba := a.path("pg_hba.conf")
	text, err := os.ReadFile(hba)
	check(t, err)
	check(t, os.WriteFile(hba, append(text, "# a's own\n"...), 0o600))
	diverge(t, a, b)
	if steps := a.rejoin(b); steps != "rewind keep-aside rewind catch-up" {
		t.Errorf("came back by %q", steps)
	}
	a.hasRows("2")
	note, err := os.ReadFile(a.cfg.DataDir + ".discarded")
	check(t, err)
	if !strings.Contains(string(note), `"timeline":2`) {
		t.Errorf("note of what was discarded: %s", note)
	}
	if text, err = os.ReadFile(hba); err != nil || !strings.Contains(string(text), "# a's own") {
		t.Errorf("pg_hba.conf was replaced: %v", err)
	}
	s := a.summarized()
	if s.Committed == 0 || !strings.Contains(string(note), s.Directory) || s.Timeline != 2 || s.Incomplete != "" {
		t.Errorf("summary %+v of %s", s, note)
	}
	if big := s.Transactions[len(s.Transactions)-1]; big.Outcome != outcomeCommitted || big.Records < 1000 ||
		big.Bytes < 50000 || big.Time == "" || len(s.Relations) == 0 {
		t.Errorf("the transaction of 1000 rows: %+v, relations %v", big, s.Relations)
	}
	if wal, err := os.ReadDir(filepath.Join(s.Directory, "pg_wal")); err != nil || len(wal) < 2 {
		t.Errorf("kept log: %v, %v", wal, err)
	}
	eventually(t, "the warning", func() error {
		if w := a.see().Warning; !strings.Contains(w, "that b does not have were discarded") {
			return errors.New(w)
		}
		return nil
	})
	if a.see().SystemID != b.see().SystemID {
		t.Error("another database system")
	}
}

// TestClone: where a rewind does not do, the copy is made anew and the old one kept, but not for ever; unless
// the configuration forbids it.
func TestClone(t *testing.T) {
	a, b := newPair(t)
	diverge(t, a, b)
	a.Engine.cfg.Rejoin.AllowClone = false
	b.client().must("revoke pg_checkpoint from " + a.cfg.ReplicationUser)
	err := a.Follow(within(t, ample), b.peer(), nil)
	if !errors.Is(err, engine.ErrNeedsClone) || !strings.Contains(err.Error(), "grant pg_checkpoint") {
		t.Fatalf("got %v", err)
	}
	a.Engine.cfg.Rejoin.AllowClone = true
	if steps := a.rejoin(b); steps != "rewind clone keep-aside catch-up" {
		t.Errorf("came back by %q", steps)
	}
	a.hasRows("2")
	first := a.kept()
	if len(first) != 1 || !exists(filepath.Join(first[0], "PG_VERSION")) {
		t.Fatalf("kept %v", first)
	}
	if s := a.summarized(); s.Committed == 0 || s.Incomplete != "" {
		t.Errorf("summary %+v", s)
	}

	// A second time, from an interrupted rewind.
	check(t, a.Stop(within(t, ample)))
	check(t, os.Rename(a.Engine.cfg.DataDir, a.Engine.cfg.DataDir+rewindingSuffix))
	if got := a.see(); got.Data != engine.DataIncomplete || got.Promotable {
		t.Errorf("after an interrupted rewind: %+v", got)
	}
	if err := a.Promote(within(t, ample), b.peer()); !errors.Is(err, engine.ErrNoData) {
		t.Errorf("an incomplete copy: %v", err)
	}
	if steps := a.rejoin(b); steps != "clone keep-aside catch-up" {
		t.Errorf("came back by %q", steps)
	}
	if kept := a.kept(); len(kept) != 1 || kept[0] == first[0] {
		t.Errorf("kept %v, before %v", kept, first)
	}
}

// summarized is what the last rejoin has said of what it discarded.
func (h *host) summarized() summary {
	h.t.Helper()
	kept := h.kept()
	if len(kept) == 0 {
		h.t.Fatal("nothing was kept")
	}
	text, err := os.ReadFile(filepath.Join(kept[len(kept)-1], summaryFile))
	check(h.t, err)
	var s summary
	check(h.t, json.Unmarshal(text, &s))
	if readme, err := os.ReadFile(filepath.Join(kept[len(kept)-1], readmeFile)); err != nil ||
		!strings.Contains(string(readme), "committed") {
		h.t.Errorf("no text beside: %v", err)
	}
	return s
}

// TestSameHistory: both hosts were promoted at the very same place, so their histories agree and their
// contents do not. Attaching would corrupt the mirror without a word.
func TestSameHistory(t *testing.T) {
	a, b := newPair(t)
	_, err := a.HandOver(within(t, ample), b.peer())
	check(t, err)
	for _, h := range []*host{b, a} {
		other := map[*host]*host{a: b, b: a}[h]
		h.serve(other)
		check(t, h.ReleaseCommits(within(t, ample)))
		h.client().must("insert into t values (1)")
		check(t, h.Stop(within(t, ample)))
	}
	check(t, b.Standby(within(t, ample)))
	b.serve(a)
	check(t, b.ReleaseCommits(within(t, ample)))
	b.client().must("insert into t select generate_series(1, 1000)")
	if steps := a.rejoin(b); steps != "clone keep-aside catch-up" {
		t.Errorf("came back by %q", steps)
	}
	a.hasRows("1001")
}

// TestForeign: what is not a copy of the pair's database is not touched.
func TestForeign(t *testing.T) {
	a, b := newHosts(t)
	a.serve(b)

	other := template(t, "two")
	copyDir(t, other, b.cfg.DataDir)
	refused := func(what string) {
		t.Helper()
		err := b.Follow(within(t, ample), a.peer(), nil)
		if !errors.Is(err, engine.ErrForeign) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	refused("another database system")
	if !exists(b.path("PG_VERSION")) || exists(b.path(standbySignal)) {
		t.Error("it was touched")
	}

	check(t, os.RemoveAll(b.cfg.DataDir))
	check(t, postgrestest.OwnDir(b.cfg.DataDir, b.cfg.OSUser))
	check(t, os.WriteFile(b.path("letters.txt"), []byte("Dear"), 0o600))
	refused("a directory of something else")
	if got := b.see(); got.Data != engine.DataUnknown || got.Promotable {
		t.Errorf("a directory of something else: %+v", got)
	}
	if !exists(b.path("letters.txt")) {
		t.Error("it was deleted")
	}

	check(t, os.Remove(b.path("letters.txt")))
	peer := a.peer()
	peer.SystemID = "1"
	if err := b.Follow(within(t, ample), peer, nil); !errors.Is(err, engine.ErrForeign) {
		t.Errorf("a partner with another database: %v", err)
	}
	if err := b.Standby(within(t, ample)); !errors.Is(err, engine.ErrNoData) {
		t.Errorf("an empty directory as a copy: %v", err)
	}
}

// TestFollowCopy: a copy is not an upstream; two mirrors must not follow each other.
func TestFollowCopy(t *testing.T) {
	a, b := newHosts(t)
	check(t, a.Standby(within(t, ample)))
	err := b.Follow(within(t, ample), a.peer(), nil)
	if err == nil || !strings.Contains(err.Error(), "copy itself") {
		t.Errorf("got %v", err)
	}
	if len(b.kept()) != 0 || b.see().Data != engine.DataEmpty {
		t.Errorf("%+v", b.see())
	}
}
