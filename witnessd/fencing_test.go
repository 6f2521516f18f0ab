package witnessd

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestFencingCommand: success is exit code 0 and nothing else.
func TestFencingCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands of this test are a shell's")
	}
	said := filepath.Join(t.TempDir(), "said")
	for _, tt := range []struct{ name, script, want string }{
		{"succeeds", `echo "$1 $2 $WITNESS_HOST $WITNESS_PROCEDURE $WITNESS_EPOCH" >` + said, ""},
		{"fails", "echo no such outlet; exit 3", "the fencing command failed (exit status 3): no such outlet"},
		{"hangs", "sleep 60 & sleep 60", "did not end within 1s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Fencing{Command: []string{"sh", "-c", tt.script, "fence", "--off"}, Timeout: time.Second}
			start := time.Now()
			err := f.fence(slog.New(slog.DiscardHandler))(t.Context(), "db1", pair.Procedure{ID: "p-1", Epoch: 4})
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case time.Since(start) > 5*time.Second:
				t.Errorf("took %v", time.Since(start))
			}
		})
	}
	if got, err := os.ReadFile(said); err != nil || string(got) != "--off db1 db1 p-1 4\n" {
		t.Errorf("the command was called with %q, %v", got, err)
	}
	if f := (Fencing{}).fence(nil); f != nil {
		t.Error("a fencing command where none is configured")
	}
}
