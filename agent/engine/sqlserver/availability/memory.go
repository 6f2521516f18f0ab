package availability

import (
	"errors"
	"maps"
	"reflect"
	"sync"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// stored is what the engine must not forget.
type stored struct {
	// Group is the group's GUID; it tells what a stopped instance holds.
	Group string `json:"group_id,omitempty"`
	// Synchronized says of each database, by group_database_id, whether it had everything when that could last be seen:
	// a replica without a primary shows NOT SYNCHRONIZING whatever it has.
	Synchronized map[string]bool `json:"synchronized,omitempty"`
	// Alone is the run of the process in which ReleaseCommits has let commits be acknowledged alone. An agent that
	// starts anew leaves them so.
	Alone string `json:"alone,omitempty"`
}

// clone shares nothing with s.
func (s stored) clone() stored {
	s.Synchronized = maps.Clone(s.Synchronized)
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
