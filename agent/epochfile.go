package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// epochFile is the file of rule R7 for one instance. It is replaced as a whole: written beside, synced,
// renamed, and the directory synced, so that a crash leaves the old or the new one and never a mixture.
type epochFile struct {
	path string
}

// storedEpoch is the file's content. Sum covers File, so that a damaged file is noticed and not believed.
type storedEpoch struct {
	Format int             `json:"format"`
	File   json.RawMessage `json:"file"`
	Sum    string          `json:"sha256"`
}

// epochContent gives hold.File stable names on disk.
type epochContent struct {
	Pair               string        `json:"pair"`
	Name               string        `json:"name"`
	Epoch              hold.Epoch    `json:"epoch"`
	Primary            string        `json:"primary"`
	Mirror             string        `json:"mirror"`
	Revision           hold.Revision `json:"revision"`
	LongestLease       time.Duration `json:"longest_lease_ns"`
	Released           hold.Epoch    `json:"released"`
	ReleasedEverything bool          `json:"released_everything"`
	Timing             hold.Timing   `json:"timing"`
	Peer               hold.Peer     `json:"peer"`
}

const epochFormat = 1

// load reads the file; known is false if there is none. A damaged file is an error: an agent that went on
// as if there were none would forget what it released.
func (f epochFile) load() (file hold.File, known bool, err error) {
	raw, err := readFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return hold.File{}, false, nil
	}
	if err != nil {
		return hold.File{}, false, fmt.Errorf("read epoch file: %w", err)
	}
	var stored storedEpoch
	if err := json.Unmarshal(raw, &stored); err != nil {
		return hold.File{}, false, f.damaged(err.Error())
	}
	if stored.Format != epochFormat {
		return hold.File{}, false, fmt.Errorf("epoch file %s has format %d, this agent knows %d: upgrade the agent",
			f.path, stored.Format, epochFormat)
	}
	if sum(stored.File) != stored.Sum {
		return hold.File{}, false, f.damaged("checksum differs")
	}
	var c epochContent
	if err := json.Unmarshal(stored.File, &c); err != nil {
		return hold.File{}, false, f.damaged(err.Error())
	}
	return hold.File{
		Pair: c.Pair, Name: c.Name, Epoch: c.Epoch, Primary: c.Primary, Mirror: c.Mirror,
		Revision: c.Revision, Longest: c.LongestLease, Released: c.Released,
		ReleasedEverything: c.ReleasedEverything, Timing: c.Timing, Peer: c.Peer,
	}, true, nil
}

func (f epochFile) damaged(why string) error {
	return fmt.Errorf("epoch file %s is damaged (%s): move it away only if this host's database is stopped "+
		"and another host serves the pair; the agent then waits one lease and asks the witness", f.path, why)
}

// save returns when the content is on disk.
func (f epochFile) save(file hold.File) error {
	content, err := json.Marshal(epochContent{
		Pair: file.Pair, Name: file.Name, Epoch: file.Epoch, Primary: file.Primary, Mirror: file.Mirror,
		Revision: file.Revision, LongestLease: file.Longest, Released: file.Released,
		ReleasedEverything: file.ReleasedEverything, Timing: file.Timing, Peer: file.Peer,
	})
	if err != nil {
		return fmt.Errorf("encode epoch file: %w", err)
	}
	raw, err := json.Marshal(storedEpoch{Format: epochFormat, File: content, Sum: sum(content)})
	if err != nil {
		return fmt.Errorf("encode epoch file: %w", err)
	}
	if err := replace(f.path, append(raw, '\n'), true); err != nil {
		return fmt.Errorf("save epoch file: %w", err)
	}
	return nil
}

// remove forgets a pair that is a tombstone.
func (f epochFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove epoch file: %w", err)
	}
	return syncDir(filepath.Dir(f.path))
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// replace writes a file as a whole; durable waits for the disk.
func replace(path string, content []byte, durable bool) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && durable {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = rename(temp, path)
	}
	if err == nil && durable {
		err = syncDir(filepath.Dir(path))
	}
	return err
}
