package mirroring

import (
	"errors"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// stored is what the engine must not forget.
type stored struct {
	// Managed is set by the first Promote or Follow: from then on a principal that nobody opened is not believed.
	Managed bool `json:"managed"`
	// System is what the unit was when all its databases were last seen mirrored.
	System string `json:"system_id,omitempty"`
	// Opened are the databases that Promote let clients write to, by mirroring_guid, in the process Run.
	Opened map[string]opening `json:"opened,omitempty"`
	Run    string             `json:"run,omitempty"`
	// Proofs are what a mirror knows of its sessions for certain, by mirroring_guid.
	Proofs map[string]proof `json:"proofs,omitempty"`
	// Ended is how the last process of a primary ended here, until the unit is whole again.
	Ended *ending `json:"ended,omitempty"`
	// Endpoint is the mirroring endpoint that Promote has stopped and has to start again.
	Endpoint string `json:"endpoint_stopped,omitempty"`
	// Principal says that some database was principal at the last look: to start the instance may open it.
	Principal bool `json:"principal"`
	// Lease is the longest lease that the agent spoke of.
	Lease time.Duration `json:"lease_ns,omitempty"`
}

// clone shares nothing with s.
func (s stored) clone() stored {
	s.Opened, s.Proofs = maps.Clone(s.Opened), maps.Clone(s.Proofs)
	if s.Ended != nil {
		e := *s.Ended
		e.Sequences, e.Ends = maps.Clone(e.Sequences), maps.Clone(e.Ends)
		s.Ended = &e
	}
	return s
}

// memory is the file of what is stored. It is safe for several goroutines.
type memory struct {
	path string

	writing sync.Mutex // over a write; taken before mu
	mu      sync.Mutex // never held over anything that can take long: Fence needs it
	now     stored
	written stored // what is on disk; guarded by writing
}

// openMemory reads the file; without one there is nothing to remember.
func openMemory(path string) (*memory, error) {
	if path == "" {
		return nil, errors.New("the engine has no file for what it must not forget")
	}
	m := &memory{path: path}
	_, err := sqlserver.LoadState(path, &m.now)
	m.written = m.now.clone()
	return m, err
}

// read is what is remembered.
func (m *memory) read() stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.clone()
}

// set changes what is remembered, without waiting for the disk.
func (m *memory) set(change func(*stored)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.now)
}

// change changes what is remembered and returns when it is on disk.
func (m *memory) change(change func(*stored)) error {
	m.set(change)
	return m.save()
}

// save puts what is remembered on disk, if it is not there yet.
func (m *memory) save() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	latest := m.read()
	if reflect.DeepEqual(latest, m.written) {
		return nil
	}
	if err := sqlserver.SaveState(m.path, latest); err != nil {
		return err
	}
	m.written = latest
	return nil
}

// forget removes the file.
func (m *memory) forget() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := sqlserver.ForgetState(m.path); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now, m.written = stored{}, stored{}
	return nil
}
