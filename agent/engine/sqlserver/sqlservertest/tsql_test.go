package sqlservertest_test

import (
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// A second client, made by others: FreeTDS.
func TestFreeTDS(t *testing.T) {
	tsql, err := osexec.LookPath("tsql")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has no tsql: install the package freetds-bin")
		}
		t.Skip("no tsql here: it is in the package freetds-bin")
	}
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"app"}, a, b, nil, 10)
	host, port, err := net.SplitHostPort(a.Address())
	if err != nil {
		t.Fatal(err)
	}
	c := osexec.CommandContext(t.Context(), tsql, "-H", host, "-p", port, "-U", "sa", "-P", "fake", "-o", "q")
	c.Env = append(os.Environ(), "TDSVER=7.4", "LC_ALL=C.UTF-8")
	c.Stdin = strings.NewReader("INSERT INTO app.dbo.t VALUES (N'geschrieben')\ngo\nSELECT v FROM app..t\ngo\n" +
		"SELECT mirroring_guid, mirroring_role_desc, mirroring_end_of_log_lsn FROM sys.database_mirroring\ngo\n" +
		"ALTER DATABASE app SET PARTNER RESUM\ngo\nUSE app\ngo\nSELECT DB_NAME()\ngo\nexit\n")
	raw, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("tsql: %v", err)
	}
	out := string(raw)
	for _, want := range []string{"geschrieben", "PRINCIPAL", "\t3300000", "Msg 102", "RESUM", "app\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
