package sqlserver

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const createLogin = "../../../deploy/sqlserver/create-login.sql"

// grants reads from the script what it grants in a mode.
func grants(t *testing.T, mode string) string {
	raw, err := os.ReadFile(filepath.FromSlash(createLogin))
	if err != nil {
		t.Fatal(err)
	}
	var code []string
	for line := range strings.Lines(string(raw)) {
		before, _, _ := strings.Cut(line, "--")
		code = append(code, strings.TrimSpace(before))
	}
	text := strings.Join(code, "\n")
	every := text[:strings.Index(text, "IF N'$(Mode)' = N'rescue'")]
	block := regexp.MustCompile(`(?s)IF N'\$\(Mode\)' = N'` + mode + `'\nBEGIN(.*?)\nEND;`).FindStringSubmatch(text)
	if block == nil {
		t.Fatalf("the script has no block for %s", mode)
	}
	probe := text[strings.Index(text, "DECLARE @database"):]
	return every + block[1] + probe
}

// Every statement must be allowed to the login that the script makes for the modes that send it, and the script must
// grant nothing that no statement of the mode needs.
func TestScriptGrantsWhatStatementsNeed(t *testing.T) {
	const sysadmin = "ALTER SERVER ROLE [sysadmin] ADD MEMBER [$(Login)]"
	// What gives a right; any one of them does.
	given := map[Right][]string{
		RightNone:        {""},
		RightServerState: {"GRANT VIEW SERVER STATE TO"},
		RightDefinition:  {"GRANT VIEW ANY DEFINITION TO"},
		RightEndpoint:    {sysadmin, "GRANT ALTER ANY ENDPOINT TO"},
		RightDatabase:    {sysadmin, "GRANT ALTER ANY DATABASE TO"},
		RightGroup:       {"GRANT ALTER ANY AVAILABILITY GROUP TO"},
		RightProbe:       {sysadmin, "GRANT SELECT, UPDATE ON [witness_agent].[probe] TO"},
	}
	for name, mode := range map[string]Mode{
		"rescue": ModeRescue, "mirroring": ModeMirroring, "availability": ModeAvailability,
	} {
		script := grants(t, name)
		needed := map[string]bool{}
		for _, s := range Statements() {
			if s.Modes()&mode == 0 {
				continue
			}
			ways := given[s.Right()]
			if s.Right() == RightMirroring {
				ways = []string{sysadmin}
				if mode == ModeRescue {
					ways = given[RightDatabase] // it decides on a principal's sessions only
				}
			}
			found := false
			for _, way := range ways {
				needed[way] = true
				found = found || strings.Contains(script, way)
			}
			if !found {
				t.Errorf("mode %s: %q needs one of %q, which the script does not grant", name, s.Text(), ways)
			}
		}
		for line := range strings.Lines(script) {
			grant := regexp.MustCompile(`GRANT .*? TO|ALTER SERVER ROLE .*?MEMBER \[\$\(Login\)\]`).FindString(line)
			if grant != "" && !needed[grant] {
				t.Errorf("mode %s: the script grants %q, which no statement needs", name, grant)
			}
		}
	}
}

func TestStatementsQuote(t *testing.T) {
	for _, c := range []struct {
		s    Statement
		want string
	}{
		{PartnerFailover("a]b"), "ALTER DATABASE [a]]b] SET PARTNER FAILOVER"},
		{WitnessSet("a", "TCP://o'brien:7022"), "ALTER DATABASE [a] SET WITNESS = 'TCP://o''brien:7022'"},
		{EndpointStop("x] STATE = STARTED --"), "ALTER ENDPOINT [x]] STATE = STARTED --] STATE = STOPPED"},
		{GroupLease("g", 2900*time.Millisecond), "ALTER AVAILABILITY GROUP [g] SET (WRITE_LEASE_VALIDITY = 2)"},
		{GroupRequire("g", 1), "ALTER AVAILABILITY GROUP [g] SET (REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT = 1)"},
		{GroupFailover("g"), "EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes'; ALTER AVAILABILITY GROUP [g] FAILOVER"},
		{WriteProbe("d"), "UPDATE [d].[witness_agent].[probe] SET [beat] = [beat] + 1"},
	} {
		if c.s.Text() != c.want {
			t.Errorf("%s, want %s", c.s.Text(), c.want)
		}
	}
}

// Whatever may lose data or let somebody serve is sent by one mode only.
func TestStatementsOfRescue(t *testing.T) {
	for _, s := range Statements() {
		text := s.Text()
		if strings.HasPrefix(text, "ALTER") && s.Modes()&ModeRescue != 0 && !strings.Contains(text, " SET WITNESS ") {
			t.Errorf("rescue sends %q", text)
		}
	}
}
