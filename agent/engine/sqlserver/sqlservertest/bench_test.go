package sqlservertest_test

import (
	"testing"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// What an agent's look at ten mirrored databases costs, and a commit that waits for a mirror.
func BenchmarkLook(b *testing.B) {
	benchmark(b, "SELECT d.name, m.mirroring_guid, m.mirroring_state_desc"+
		" FROM sys.database_mirroring m JOIN sys.databases d ON d.database_id = m.database_id WHERE m.mirroring_guid IS NOT NULL")
}

func BenchmarkCommit(b *testing.B) { benchmark(b, "INSERT INTO db1..t VALUES ('x')") }

func benchmark(b *testing.B, statement string) {
	p, m := sqlservertest.Start(b, quick()), sqlservertest.Start(b, quick())
	sqlservertest.Mirror(b, []string{"db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10"}, p, m, nil, 10)
	db := p.DB(b, "master")
	for b.Loop() {
		if _, err := db.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
}
