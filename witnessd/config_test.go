package witnessd_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd"
)

const example = "../deploy/config/witnessd.yaml"

// TestExample holds the annotated example to the defaults: but for what each site must set, it changes
// nothing, and it shows every key.
func TestExample(t *testing.T) {
	got, err := witnessd.LoadConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	want := witnessd.DefaultConfig()
	want.Node, want.Nodes = "n1", []witnessd.NodeConfig{
		{ID: "n1", Raft: "witness1:7400", API: "witness1:7401"},
		{ID: "n2", Raft: "witness2:7400", API: "witness2:7401"},
		{ID: "n3", Raft: "witness3:7400", API: "witness3:7401"},
	}
	want.Raft.Advertise, want.API.Advertise = "witness1:7400", "witness1:7401"
	got.Fencing.Command = nil // an empty list and none mean the same
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example is\n%+v\nwant\n%+v", got, want)
	}
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[witnessd.Config]()) {
		if !strings.Contains(string(raw), key+":") {
			t.Errorf("the example does not show the key %q", key)
		}
	}
}

func keys(t reflect.Type) []string {
	var all []string
	for f := range t.Fields() {
		all = append(all, f.Tag.Get("yaml"))
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			all = append(all, keys(inner)...)
		}
	}
	return all
}

func TestPrintedConfigIsTheSame(t *testing.T) {
	c, err := witnessd.LoadConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Print()
	if err != nil {
		t.Fatal(err)
	}
	again, err := witnessd.ParseConfig([]byte(text))
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("printed and read again: %v\n%+v\nwant\n%+v", err, again, c)
	}
}

func TestConfigRefusals(t *testing.T) {
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) string {
		if !strings.Contains(string(raw), old) {
			t.Fatalf("the example has no %q", old)
		}
		return strings.Replace(string(raw), old, with, 1)
	}
	tests := []struct{ name, file, want string }{
		{"unknown key", replace("join: false", "joyn: false"), `[27:1] unknown field "joyn"`},
		{"unknown key below", replace("  profile: local", "  profil: local"), `unknown field "profil"`},
		{"key twice", replace("join: false", "join: false\njoin: true"), "already defined"},
		{"wrong type", replace("join: false", "join: perhaps"), "cannot unmarshal"},
		{"no node", replace("node: n1\n", ""), "node (\"\") must be a name"},
		{"node not listed", replace("node: n1\n", "node: n4\n"), "nodes must list this node (n4) too"},
		{"two nodes", replace("  - id: n3\n    raft: \"witness3:7400\"\n    api: \"witness3:7401\"\n", ""), "nodes lists 2"},
		{"node twice", replace("- id: n3", "- id: n2"), "nodes: id n2 is given twice"},
		{"address twice", replace("witness3:7400", "witness2:7400"), "address witness2:7400 is given twice"},
		{"other address than listed", replace("advertise: \"witness1:7400\"", "advertise: \"w1:7400\""),
			"raft.advertise (w1:7400) must be what nodes says of n1 (witness1:7400)"},
		{"address to dial without a host", replace("advertise: \"witness1:7401\"", "advertise: \":7401\""),
			"api.advertise (\":7401\") must be host:port"},
		{"profile", replace("profile: local", "profile: moon"), "raft.profile (\"moon\") must be local or wide"},
		{"fencing", replace("timeout: 30s", "timeout: 2m"), "fencing.timeout (2m0s) must be between 1s and 1m"},
		{"webhook", replace("webhooks: []", "webhooks: [{name: a b, events: [BOOM], pairs: [\"x y\"], timeout: 2h}]"),
			"webhook \"a b\": name must be up to 63 letters"},
		{"webhook twice", replace("webhooks: []", "webhooks: [{name: a, url: \"https://x\", secret_file: /s}, "+
			"{name: a, url: \"https://x\", secret_file: /s}]"), "webhooks: name a is given twice"},
		{"webhook's time without a unit", replace("webhooks: []", "webhooks: [{name: a, timeout: 5}]"), "with its unit"},
		{"log level", replace("level: info", "level: loud"), "log.level (\"loud\") must be"},
		{"nothing", "", "nodes must list the first nodes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := witnessd.ParseConfig([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestConfigJoin: a node that is added later needs no list, and says by itself how it is reached.
func TestConfigJoin(t *testing.T) {
	_, err := witnessd.ParseConfig([]byte(`
node: n4
join: true
raft: {advertise: "w4:7400"}
api: {advertise: "w4:7401"}
`))
	if err != nil {
		t.Error(err)
	}
}

// TestConfigWebhook: what a webhook leaves out, and that the commented example is one.
func TestConfigWebhook(t *testing.T) {
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	first := slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, "#   - name: pager") })
	last := slices.Index(lines, "webhooks: []")
	var shown string
	for _, line := range lines[first:last] {
		shown += strings.TrimPrefix(line, "#") + "\n"
	}
	c, err := witnessd.ParseConfig([]byte(strings.Replace(string(raw), "webhooks: []", "webhooks:\n"+shown+
		"   - {name: rest, url: \"https://x\", secret_file: /s}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := []witnessd.Webhook{
		{
			Name: "pager", URL: "https://pager.example/witness", SecretFile: "/etc/witnessd/pager.secret",
			Events: []string{"PROMOTED", "EXPOSED", "PROCEDURE_FAILED", "HOOK_FAILED"}, Pairs: []string{"payroll-*", "sales"},
			Timeout: 5 * time.Second,
		},
		{Name: "rest", URL: "https://x", SecretFile: "/s", Timeout: 5 * time.Second},
	}
	if !reflect.DeepEqual(c.Webhooks, want) {
		t.Errorf("got %+v\nwant %+v", c.Webhooks, want)
	}
}

// TestConfigAdvertise: what the list says need not be said again.
func TestConfigAdvertise(t *testing.T) {
	c, err := witnessd.ParseConfig([]byte(`
node: n1
nodes: [{id: n1, raft: "w1:7400", api: "w1:7401"}]
`))
	if err != nil || c.Raft.Advertise != "w1:7400" || c.API.Advertise != "w1:7401" {
		t.Errorf("got %+v, %v", c, err)
	}
}
