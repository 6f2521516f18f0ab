package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
)

// position is how an error of the decoder says where: by line and column, or by the only key it can be.
var position = regexp.MustCompile(`\[\d+:\d+\]|timeout: `)

// FuzzSettings reads any text as the configuration file, and any as the environment's endpoints. What is refused
// says where; what is taken can be worked with.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("endpoints: [n1:7401, n2:7401]\ntimeout: 5s\noutput: json\ncolor: false\n"), "")
	f.Add([]byte("# nothing\n"), " n1:7401, ,n2:7401 ")
	f.Add([]byte("timeout: -1s\n"), "n1")
	f.Add([]byte("timeout: 99999999h\n"), ":")
	f.Add([]byte("timeout: 5\nendpoint: x\n"), "[::1]:7401")
	f.Add([]byte("endpoints: *x"), ",")
	path := filepath.Join(f.TempDir(), configName)
	f.Fuzz(func(t *testing.T, raw []byte, env string) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		r := &run{surroundings: surroundings{getenv: func(key string) string {
			return map[string]string{envConfig: path, envEndpoints: env}[key]
		}}}
		s, err := r.load()
		if err != nil {
			var into settings
			if inText := yaml.Unmarshal(raw, &into) != nil; inText && !position.MatchString(err.Error()) {
				t.Fatalf("refused without saying where: %v", err)
			}
			return
		}
		if s.Timeout <= 0 || !slices.Contains([]string{outputTable, outputJSON, outputYAML}, s.Output) || len(s.Endpoints) == 0 {
			t.Fatalf("took %+v", s)
		}
		set, err := endpoints.New(endpoints.Options{Addresses: s.Endpoints})
		if err != nil {
			return
		}
		for _, address := range set.Addresses() {
			if address == "" || strings.TrimSpace(address) != address || !slices.Contains(s.Endpoints, address) {
				t.Fatalf("%q of %q", address, s.Endpoints)
			}
		}
	})
}

// FuzzMember reads any word as HOST[=INSTANCE].
func FuzzMember(f *testing.F) {
	for _, text := range []string{"db1", "db1=main", "=", "db1=", "=main", "a=b=c", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := member(text)
		if err != nil {
			return
		}
		again, err := member(m.GetHost() + "=" + m.GetInstance())
		if err != nil || m.GetHost() == "" || m.GetInstance() == "" || again.GetHost() != m.GetHost() ||
			again.GetInstance() != m.GetInstance() {
			t.Fatalf("%q is %v, then %v, %v", text, m, again, err)
		}
	})
}

// FuzzRevision reads any word as a revision: what is taken is printed, and read again, as the same.
func FuzzRevision(f *testing.F) {
	for _, text := range []string{"12", "1.5", "16777215.1099511627775", "0.1", ".", "1.", "-1", "1.1099511627776", "1e3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := view.ParseRevision(text)
		if err != nil {
			return
		}
		if again, err := view.ParseRevision(view.Revision(r)); err != nil || again != r {
			t.Fatalf("%q is %d, printed %s, then %d, %v", text, r, view.Revision(r), again, err)
		}
	})
}
