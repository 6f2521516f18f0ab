package agent

import "os"

// Where the agent keeps its files, if the configuration does not say.
const (
	defaultStateDir = "/var/lib/witness-agent"
	defaultRunDir   = "/run/witness-agent" // empty after a boot
)

// readFile reads a file that may be replaced meanwhile.
func readFile(path string) ([]byte, error) { return os.ReadFile(path) }

// rename puts a file in another's place, all or nothing.
func rename(from, to string) error { return os.Rename(from, to) }

// syncDir returns when the names in a directory are on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
