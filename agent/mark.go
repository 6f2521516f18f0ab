package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/witnessd/witnessd/agent/hold"
)

// markFile remembers until when clients may be in, for the next start of the agent (rule R10: a timed fence
// left by the former start may run to its end). It need not survive a crash of the host, because the
// database does not either; it is void in another boot, whose clock starts anew.
type markFile struct {
	path string
	boot string
}

type storedMark struct {
	Boot    string       `json:"boot"`
	Epoch   hold.Epoch   `json:"epoch"`
	Until   hold.Instant `json:"until_boottime_ns"`
	Endless bool         `json:"endless"`
}

// load returns the mark of this boot, or none.
func (m markFile) load() hold.Mark {
	raw, err := readFile(m.path)
	if err != nil {
		return hold.Mark{}
	}
	var s storedMark
	if json.Unmarshal(raw, &s) != nil || m.boot == "" || s.Boot != m.boot {
		return hold.Mark{}
	}
	return hold.Mark{Epoch: s.Epoch, Until: s.Until, Endless: s.Endless}
}

// write is done before the fence is renewed: a mark may end earlier than the fence, never later.
func (m markFile) write(r hold.Renew) error {
	raw, err := json.Marshal(storedMark{Boot: m.boot, Epoch: r.Epoch, Until: r.Until, Endless: r.Endless})
	if err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	if err := replace(m.path, raw, false); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

func (m markFile) clear() error {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear mark: %w", err)
	}
	return nil
}
