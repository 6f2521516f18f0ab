package witnessd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// saidLimit bounds what of a fencing command's output goes into the history.
const saidLimit = 200

// fence runs the fencing command for a host; nil if none is configured. The command gets the host's name as
// its last argument, and success is its word that the host's clients are cut off (rule R14).
func (f Fencing) fence(log *slog.Logger) func(context.Context, pair.HostID, pair.Procedure) error {
	if len(f.Command) == 0 {
		return nil
	}
	return func(ctx context.Context, host pair.HostID, p pair.Procedure) error {
		ctx, cancel := context.WithTimeout(ctx, f.Timeout)
		defer cancel()
		args := append(append([]string{}, f.Command[1:]...), string(host))
		cmd := exec.CommandContext(ctx, f.Command[0], args...)
		cmd.Env = append(os.Environ(), "WITNESS_HOST="+string(host), "WITNESS_PROCEDURE="+p.ID,
			fmt.Sprintf("WITNESS_EPOCH=%d", p.Epoch))
		cmd.WaitDelay = time.Second // what the command has started may keep its output open
		out, err := cmd.CombinedOutput()
		said := strings.Join(strings.Fields(string(out[:min(len(out), saidLimit)])), " ")
		log.InfoContext(ctx, "fencing command said", "host", string(host), "procedure", p.ID, "output", said)
		switch {
		case err == nil:
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("the fencing command did not end within %v: %s", f.Timeout, said)
		default:
			return fmt.Errorf("the fencing command failed (%w): %s", err, said)
		}
	}
}
