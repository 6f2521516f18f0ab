package witnessd

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/ledger"
)

// Restored says what Restore has made.
type Restored struct {
	Generation uint64
	Pairs      int
}

// Restore makes, from a backup and while the node is not running, the first node of a new witness (rule
// R15). The node's data directory must be empty. The other nodes are then started with empty directories and
// `join: true`, and added.
func Restore(c Config, backup io.Reader, log *slog.Logger) (Restored, error) {
	if there, err := os.ReadDir(c.DataDir); err == nil && len(there) > 0 {
		return Restored{}, fmt.Errorf("data directory %s is not empty: a restore begins a new witness; "+
			"make sure that the old one is not running, and move its directory away", c.DataDir)
	}
	state := ledger.New()
	result, err := raftstore.Restore(raftstore.Restoration{
		Dir: c.DataDir, Self: raftstore.Server{ID: c.Node, Address: c.Raft.Advertise},
		Backup: backup, Machine: state, Entry: ledger.EncodeRestore(0, wallClock()), Logger: log,
	})
	if err != nil {
		return Restored{}, fmt.Errorf("restore into %s: %w", c.DataDir, err)
	}
	if r, ok := result.(ledger.Result); ok && r.Refusal != nil {
		return Restored{}, fmt.Errorf("restore into %s: %w", c.DataDir, r.Refusal)
	}
	return Restored{Generation: state.Generation(), Pairs: len(state.Pairs())}, nil
}
