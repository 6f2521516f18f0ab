//go:build linux

package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// FuzzLSN reads any text as a place in the log: what is taken is printed as PostgreSQL prints it, and read again
// as the same place.
func FuzzLSN(f *testing.F) {
	for _, s := range []string{"1A/3000148\n", "0/0", "FFFFFFFF/FFFFFFFF", "1/100000000", "-1/2", "1/", "/1", "+1/+2", "1_0/0", "0x1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLSN(s)
		if err != nil {
			return
		}
		again, err := parseLSN(l.String())
		if err != nil || again != l {
			t.Fatalf("%q is %v, then %v, %v", s, l, again, err)
		}
		if strings.Trim(strings.TrimSpace(s), "0123456789abcdefABCDEF/") != "" {
			t.Fatalf("%q was taken for %v", s, l)
		}
	})
}

// FuzzHistory reads any text as a timeline's history. However wrong it is, the lineage made of it can be compared:
// two equal logs go on with each other, and a mirror never discards more than it has.
func FuzzHistory(f *testing.F) {
	const honest = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n"
	f.Add(honest, uint32(3), uint64(0x6000000), "", uint64(0x3000200))
	f.Add("", uint32(1), uint64(5), honest, uint64(0))
	f.Add("# comment\n1 0/9 x\n1 0/3 y\n", uint32(1), uint64(1), "9 FFFFFFFF/FFFFFFFF\n", uint64(1<<64-1))
	f.Add("1\n", uint32(1), uint64(1), "x 0/1\n", uint64(1))
	f.Fuzz(func(t *testing.T, history string, timeline uint32, end uint64, other string, otherEnd uint64) {
		own, err := newLineage(history, point{timeline, lsn(end)})
		if err != nil {
			return
		}
		if own.end() != (point{timeline, lsn(end)}) {
			t.Fatalf("%q ends at %v", history, own.end())
		}
		if r := relate(own, own); r.parted || r.discard != 0 || r.common != own.end() {
			t.Fatalf("%v against itself: %+v", own, r)
		}
		upstream, err := newLineage(other, point{timeline, lsn(otherEnd)})
		if err != nil {
			return
		}
		r := relate(own, upstream)
		if r.discard > end || r.discard > 0 && (!r.parted || r.common.at+lsn(r.discard) != lsn(end)) {
			t.Fatalf("%v against %v: %+v", own, upstream, r)
		}
		own.before(lsn(otherEnd))
	})
}

// FuzzControl reads any text as what pg_controldata prints: it has an identity and a segment size, or is refused.
func FuzzControl(f *testing.F) {
	honest := strings.Join([]string{
		"Database system identifier:           7301", "Database cluster state:               in production",
		"Latest checkpoint location:           0/3000148", "Latest checkpoint's TimeLineID:       1",
		"Minimum recovery ending location:     0/0", "Min recovery ending loc's timeline:   0",
		"Backup start location:                0/0", "End-of-backup record required:        no",
		"wal_log_hints setting:                on", "Bytes per WAL segment:                16777216",
		"Data page checksum version:           0",
	}, "\n")
	f.Add(honest)
	f.Add(strings.Replace(honest, "16777216", "0", 1))
	f.Add(strings.Replace(honest, "0/3000148", "nowhere", 1))
	f.Add(":\n::\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseControl(text)
		if err == nil && (c.systemID == "" || c.segmentSize == 0) {
			t.Fatalf("took %+v", c)
		}
		if err == nil && (c.least().at < c.checkpoint.at || c.least().at < c.minRecovery.at) {
			t.Fatalf("least %v of %+v", c.least(), c)
		}
	})
}

// FuzzDSN writes any values as a connection string: PostgreSQL's own rules read out of it what was put in, so that
// no value can become another setting.
func FuzzDSN(f *testing.F) {
	f.Add("db2", "witness_sales", "it's")
	f.Add(`\`, `' host='evil`, `a=b port=1`)
	f.Add("", " ", "\t\n")
	f.Fuzz(func(t *testing.T, host, name, value string) {
		if strings.ContainsRune(host+name+value, 0) || strings.ContainsAny(host, ",/@\\") || host == "" {
			return // what libpq gives a meaning of its own, and no address has
		}
		text := dsn(map[string]string{"host": host, "application_name": name, "search_path": value, "port": "1", "user": "u"})
		cfg, err := pgconn.ParseConfig(text)
		if err != nil {
			return // refused is not misunderstood
		}
		if cfg.Host != host || cfg.RuntimeParams["application_name"] != name || cfg.RuntimeParams["search_path"] != value ||
			cfg.Port != 1 || cfg.User != "u" {
			t.Fatalf("%s was read as host %q, %q", text, cfg.Host, cfg.RuntimeParams)
		}
	})
}

// FuzzPidFile reads any bytes as a postmaster's file: a process that is named can be one.
func FuzzPidFile(f *testing.F) {
	f.Add([]byte("4711\n/data\n1700000000\n5432\n/var/run/postgresql\n10.0.0.1\n  5432001    65538\nready   \n"))
	f.Add([]byte("-1\n"))
	f.Add([]byte("1"))
	f.Add([]byte("99999999999999999999\n\n\n\n\n\n\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if file, err := readPidFile(dir); err == nil && file.pid <= 0 {
			t.Fatalf("%q names process %d", raw, file.pid)
		}
	})
}
