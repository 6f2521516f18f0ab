package agent_test

import (
	"fmt"
	"iter"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent"
	"github.com/witnessd/witnessd/agent/engine/demo"
	"github.com/witnessd/witnessd/agent/engine/postgres"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// The annotated example is the reference of the defaults: apart from what a site must set, it says what an empty
// file means.
func TestExampleIsTheDefaults(t *testing.T) {
	raw, err := os.ReadFile("../deploy/config/witness-agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := agent.ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := agent.DefaultConfig()
	want.Host = "db1"
	want.Witness.Endpoints = []string{"witness1:7401", "witness2:7401", "witness3:7401"}
	want.Link.Advertise = "db1:7412"
	pg := postgres.Default()
	pg.DataDir, pg.Listen = "/var/lib/postgresql/15/main", "db1:5432"
	want.Instances = []agent.Instance{{
		Name: "main", Engine: "postgres", Gate: agent.DefaultGate(), Postgres: pg, Demo: demo.Default(),
	}}
	gotText, err := got.Print()
	if err != nil {
		t.Fatal(err)
	}
	wantText, err := want.Print()
	if err != nil {
		t.Fatal(err)
	}
	if normal(gotText) != normal(wantText) {
		t.Errorf("example means\n%s\ndefaults are\n%s", gotText, wantText)
	}
}

// TestExampleForSQLServer is the same for the section that the other example has not.
func TestExampleForSQLServer(t *testing.T) {
	raw, err := os.ReadFile("../deploy/config/witness-agent-sqlserver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := agent.ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := sqlserver.Default()
	want.Listen, want.User, want.PasswordFile = "sql1:1433", "witness-agent", "/etc/witnessd/sqlserver.password"
	want.Databases = []string{"xds", "lis", "rtcab", "rtcxds", "rtcshared", "rgsconfig", "rgsdyn", "cpsdyn"}
	want.Service.Unit = "mssql-server.service"
	gotText, wantText := fmt.Sprintf("%+v", got.Instances[0].SQLServer), fmt.Sprintf("%+v", want)
	if gotText != wantText {
		t.Errorf("example means\n%s\ndefaults are\n%s", gotText, wantText)
	}
	for key := range keys(reflect.TypeFor[sqlserver.Config]()) {
		if !strings.Contains(string(raw), key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

// keys are the names of a section's keys, those of its parts included.
func keys(of reflect.Type) iter.Seq[string] {
	return func(yield func(string) bool) {
		for field := range of.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if key == "-" {
				continue
			}
			if !yield(key) {
				return
			}
			if field.Type.Kind() == reflect.Struct {
				for inner := range keys(field.Type) {
					if !yield(inner) {
						return
					}
				}
			}
		}
	}
}

// normal folds the two ways of writing an empty map.
func normal(s string) string { return strings.ReplaceAll(s, ": null", ": {}") }

func TestBadConfigurations(t *testing.T) {
	const good = `
host: db1
witness: {endpoints: ["w1:7401"]}
link: {advertise: "db1:7412"}
instances: [{name: main, engine: demo, demo: {data_dir: /srv/demo}}]
`
	if _, err := agent.ParseConfig([]byte(good)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, c := range map[string]struct{ change, with, want string }{
		"unknown key":             {"host: db1", "host: db1\nhots: db2", "hots"},
		"unknown key of engine":   {"data_dir: /srv/demo", "data_dir: /srv/demo, data: x", "data"},
		"no host":                 {"host: db1", "", "host must name this host"},
		"no witness":              {`["w1:7401"]`, "[]", "witness.endpoints must name the nodes"},
		"endpoint without port":   {"w1:7401", "w1", `"w1" must be host:port`},
		"link nobody can reach":   {`"db1:7412"`, `":7412"`, "link.advertise"},
		"engine unknown":          {"engine: demo", "engine: oracle", "must be postgres, sqlserver-mirroring"},
		"relative data directory": {"/srv/demo", "srv/demo", "data_dir"},
		"instance twice": {
			"instances: [", "instances: [{name: main, engine: demo, demo: {data_dir: /srv/x}}, ",
			`name "main" is used twice`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.change, c.with, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := agent.ParseConfig([]byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}
