package sqlserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const validateDir = "../../../deploy/sqlserver"

// validate.sql must take every look that the agent takes, word by word.
func TestValidateTakesEveryLook(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(validateDir, "validate.sql"))
	if err != nil {
		t.Fatal(err)
	}
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	script := words(string(raw))
	for _, s := range Statements() {
		text := words(s.Text())
		if (strings.HasPrefix(text, "SELECT") || text == lookDiagnostics().Text()) && !strings.Contains(script, text) {
			t.Errorf("validate.sql does not take the look %s", text)
		}
	}
}

// validate runs the script with a sqlcmd of ours, which answers by what it is asked.
func validate(t *testing.T, environment map[string]string, steps ...string) (output string, code int) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	dir := t.TempDir()
	sqlcmd := `#!/bin/sh
case "$*" in
*"SELECT COUNT(*) FROM sys.databases"*) echo "${OTHERS:-0}" ;;
*mirroring_state_desc*SUSPEND* | *"-S b"*"SET PARTNER FAILOVER"*) echo "Msg 1470, Level 16, State 1, Server b, Line 1" ;;
*mirroring_state_desc*) cat "$STATE" ;;
*"PARTNER SUSPEND"*) echo SUSPENDED >"$STATE" ;;
*"PARTNER RESUME"*) case "$*" in
    *"-S b"*) echo "Msg 1470, Level 16, State 1, Server b, Line 1" ;;
    *model*) echo "Msg 1416, Level 16, State 1, Server a, Line 1" ;;
    *) echo SYNCHRONIZED >"$STATE" ;;
    esac ;;
*FORCE_SERVICE*) echo "Msg 1455, Level 16, State 1, Server b, Line 1" ;;
*"TIMEOUT 40000"*) echo "Msg 1476, Level 16, State 1, Server a, Line 1" ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "sqlcmd"), []byte(sqlcmd), 0o700); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if err := os.WriteFile(state, []byte("SYNCHRONIZED\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join(validateDir, "validate.sh"))
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), bash, append([]string{script}, steps...)...)
	run.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "STATE="+state, "A=a", "B=b", "DATABASES=2",
		"A_ENDPOINT=TCP://a:5022", "B_ENDPOINT=TCP://b:5022", "SHARE_A=/a", "SHARE_B=/b", "WITNESS=TCP://w:7022")
	for key, value := range environment {
		run.Env = append(run.Env, key+"="+value)
	}
	raw, _ := run.CombinedOutput()
	return string(raw), run.ProcessState.ExitCode()
}

func TestValidateRefuses(t *testing.T) {
	for _, c := range []struct {
		what        string
		environment map[string]string
		steps       []string
		want        string
	}{
		{"not told so", nil, nil, "VALIDATE_BREAKS_THIS_PAIR=yes"},
		{"others work there", map[string]string{"VALIDATE_BREAKS_THIS_PAIR": "yes", "OTHERS": "3"}, nil, "holds 3 other databases"},
		{"unknown step", map[string]string{"VALIDATE_BREAKS_THIS_PAIR": "yes"}, []string{"erros"}, "no step is called erros"},
		{"a variable is missing", map[string]string{"VALIDATE_BREAKS_THIS_PAIR": "yes"}, []string{"block"}, "set CUT"},
	} {
		output, code := validate(t, c.environment, c.steps...)
		if code != 100 || !strings.Contains(output, c.want) {
			t.Errorf("%s: exit code %d, want 100 and %q in\n%s", c.what, code, c.want, output)
		}
	}
}

// The script counts what differs from the documentation, and says which.
func TestValidateFindsDifferences(t *testing.T) {
	output, code := validate(t, map[string]string{"VALIDATE_BREAKS_THIS_PAIR": "yes"}, "errors")
	for _, want := range []string{
		"ok      errors | FAILOVER on the mirror | 1470 | 1470",
		"ok      errors | FORCE_SERVICE on the mirror while connected | 1455 | 1455",
		"ok      errors | TIMEOUT out of range | 1476 | 1476",
		"DIFFERS errors | opening the mirror's database | 954 | 0",
		"ok      errors | state after SUSPEND | SUSPENDED | SUSPENDED",
		"ok      errors | state after RESUME | SYNCHRONIZED | SYNCHRONIZED",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("no line %q in\n%s", want, output)
		}
	}
	if n := strings.Count(output, "\nDIFFERS "); code != n || n == 0 {
		t.Errorf("exit code %d, and %d lines say DIFFERS", code, n)
	}
}
