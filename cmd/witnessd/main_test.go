package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const example = "../../deploy/config/witnessd.yaml"

func TestCommands(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("node: n1\nnodez: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int    // 0: no error
		want string // in the output or in the error
	}{
		{"no command", nil, 0, "Available Commands"},
		{"version", []string{"version"}, 0, "witnessd "},
		{"config check", []string{"config", "check", "--config", example}, 0, "data_dir: /var/lib/witnessd"},
		{"config", []string{"config"}, 0, "check"},
		{"unknown command", []string{"frob"}, exitConfig, `no command "frob"`},
		{"unknown command below", []string{"config", "frob"}, exitConfig, "unknown command"},
		{"unknown flag", []string{"run", "--frob"}, exitConfig, "unknown flag"},
		{"unknown key", []string{"run", "--config", bad}, exitConfig, `[2:1] unknown field "nodez"`},
		{"no configuration", []string{"run", "--config", bad + "x"}, exitConfig, "no such file"},
		{"no backup named", []string{"restore", "--config", example}, exitConfig, "--snapshot"},
		{"no backup", []string{"restore", "--config", example, "--snapshot", bad + "x"}, exitFailed, "open the backup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := root()
			cmd.SetArgs(append([]string{}, tt.args...))
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			err := cmd.ExecuteContext(t.Context())
			text, code := out.String(), 0
			if err != nil {
				text, code = err.Error(), exitCode(err)
			}
			if code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("code %d, %q; want %d, %q", code, text, tt.code, tt.want)
			}
		})
	}
}
