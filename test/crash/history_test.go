package crash

import (
	"fmt"
	"slices"
	"sync"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// content is the part of a record that these tests change: every change makes one that never was before.
type content struct {
	mode    string
	reason  string
	timeout time.Duration
}

func contentOf(p *witnessv1.Pair) content {
	mode := pair.Mode(p.GetMode()).String() // both have the same numbers
	return content{mode, p.GetPause().GetReason(), p.GetPolicy().GetReleaseTimeout().AsDuration()}
}

func recorded(r pair.Record) content {
	return content{r.Mode.String(), r.Pause.Reason, r.Policy.ReleaseTimeout}
}

// tracked is a pair as its only client knows it: what each of its revisions holds.
type tracked struct {
	name string

	mu       sync.Mutex
	id       string
	revision uint64 // the newest that was acknowledged or read
	// contents has one content for each revision up to the newest. For the next one it has all that was asked
	// for: a request whose answer was lost may still be on its way when the pair is read, and come first.
	contents map[uint64][]content
	removing bool // the removal was asked for
	removed  bool // the removal was acknowledged or read
	changes  int  // asked for so far
}

func newTracked(name string) *tracked {
	return &tracked{name: name, contents: map[uint64][]content{}}
}

// next notes what is about to be asked for: a backup may hold it before the answer is here.
func (p *tracked) next(want content) (revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contents[p.revision+1] = append(p.contents[p.revision+1], want)
	return p.revision
}

func (p *tracked) now() content {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contents[p.revision][0]
}

// acknowledged takes in the answer to the change that was asked for last.
func (p *tracked) acknowledged(m *witnessv1.Pair, want content) error {
	if err := p.read(m); err != nil {
		return err
	}
	if got := p.now(); got != want {
		return fmt.Errorf("pair %s: acknowledged %+v, and asked for was %+v", p.name, got, want)
	}
	return nil
}

// read takes in the pair as it is: as it was known last, or as one of the changes asked for since has made it.
func (p *tracked) read(m *witnessv1.Pair) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != "" && m.GetId() != p.id {
		return fmt.Errorf("pair %s has id %s, and had %s", p.name, m.GetId(), p.id)
	}
	revision, got := m.GetRevision(), contentOf(m)
	if revision != p.revision && revision != p.revision+1 || revision == 0 {
		return fmt.Errorf("pair %s is at revision %d with %+v, and was at %d", p.name, revision, got, p.revision)
	}
	if !slices.Contains(p.contents[revision], got) {
		return fmt.Errorf("pair %s at revision %d holds %+v, want one of %+v", p.name, revision, got, p.contents[revision])
	}
	p.id, p.revision, p.contents[revision] = m.GetId(), revision, []content{got}
	return nil
}

// existed says whether the pair was ever like that.
func (p *tracked) existed(r pair.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, were := recorded(r), p.contents[uint64(r.Revision)]; !slices.Contains(were, got) {
		return fmt.Errorf("pair %s at revision %v holds %+v, which never was (%+v)", p.name, r.Revision, got, were)
	}
	return nil
}
