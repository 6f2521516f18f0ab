//go:build linux

package postgres

import (
	"strings"
	"testing"
)

// TestDumpOfProbes: the engine's own commits, which change nothing, are not among what was lost; a transaction in which
// somebody calls the same function and writes something too is.
func TestDumpOfProbes(t *testing.T) {
	d := newDump()
	for line := range strings.Lines(`rmgr: LogicalMessage len (rec/tot):     69/    69, tx:        735, lsn: 0/0A05A4F0, prev 0/0A05A4C8, desc: MESSAGE transactional, prefix "witness-agent"; payload (5 bytes): 70 72 6F 62 65
rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/0152E5A8, prev 0/0152E570, desc: COMMIT 2026-11-23 22:12:01.123456 UTC
rmgr: LogicalMessage len (rec/tot):     69/    69, tx:        736, lsn: 0/0A05A4F0, prev 0/0A05A4C8, desc: MESSAGE transactional, prefix "witness-agent"; payload (5 bytes): 70 72 6F 62 65
rmgr: Heap        len (rec/tot):     59/    59, tx:        736, lsn: 0/0152E5A8, prev 0/0152E570, desc: INSERT off 1 flags 0x00, blkref #0: rel 1663/5/16384 blk 0
rmgr: Transaction len (rec/tot):     34/    34, tx:        736, lsn: 0/0152E5A8, prev 0/0152E570, desc: COMMIT 2026-11-23 22:12:01.123456 UTC
rmgr: LogicalMessage len (rec/tot):     69/    69, tx:        737, lsn: 0/0A05A4F0, prev 0/0A05A4C8, desc: MESSAGE transactional, prefix "witness-agent"; payload (5 bytes): 70 72 6F 62 65`) {
		d.line(strings.TrimSpace(line))
	}
	var s summary
	d.fill(&s)
	if s.Records != 6 || s.Committed != 1 || s.Unfinished != 0 || len(s.Transactions) != 1 || s.Transactions[0].XID != 736 {
		t.Errorf("%+v", s)
	}
}
