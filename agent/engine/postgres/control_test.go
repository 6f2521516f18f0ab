//go:build linux

package postgres

import (
	"os"
	"strings"
	"testing"
)

const controlText = `pg_control version number:            1300
Database system identifier:           7300000000000000001
Database cluster state:               shut down in recovery
Latest checkpoint location:           0/3000028
Latest checkpoint's TimeLineID:       2
Minimum recovery ending location:     0/3000148
Min recovery ending loc's timeline:   2
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_log_hints setting:                on
Bytes per WAL segment:                16777216
Data page checksum version:           0
`

func TestParseControl(t *testing.T) {
	c, err := parseControl(controlText)
	if err != nil {
		t.Fatal(err)
	}
	want := control{
		systemID: "7300000000000000001", state: "shut down in recovery", checkpoint: point{2, 0x3000028},
		minRecovery: point{2, 0x3000148}, rewindable: true, segmentSize: 16 << 20,
	}
	if c != want || c.least() != want.minRecovery {
		t.Errorf("got %+v", c)
	}
	for from, to := range map[string]string{
		"wal_log_hints setting:                on": "wal_log_hints setting: off",
		"0/3000028": "here", "Bytes per WAL segment": "Bytes",
	} {
		c, err := parseControl(strings.ReplaceAll(controlText, from, to))
		if err == nil && c.rewindable {
			t.Errorf("%s read as %+v", to, c)
		}
	}
}

func TestReadProcess(t *testing.T) {
	p, err := readProcess(os.Getpid())
	if err != nil || p.parent != os.Getppid() || p.started == 0 || p.dead() {
		t.Errorf("got %+v, %v", p, err)
	}
	if serves(os.Getpid(), "/") {
		t.Error("a test is taken for a server")
	}
}

func TestScanLines(t *testing.T) {
	rest := []byte("one\r\n 10/20 kB\rlast")
	var got []string
	for len(rest) > 0 {
		n, token, err := scanLines(rest, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(token) > 0 {
			got = append(got, string(token))
		}
		rest = rest[n:]
	}
	if strings.Join(got, "|") != "one|10/20 kB|last" {
		t.Errorf("got %q", got)
	}
}
