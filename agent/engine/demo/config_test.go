package demo

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestConfig(t *testing.T) {
	const text = `
program: /usr/bin/demodb
data_dir: /var/lib/demodb
listen: 0.0.0.0:7480
advertise: sql1:7480
rejoin:
  allow_clone: false
  keep_diverged: false
`
	got := Default()
	if err := yaml.UnmarshalWithOptions([]byte(text), &got, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Program: "/usr/bin/demodb", DataDir: "/var/lib/demodb", Listen: "0.0.0.0:7480",
		Advertise: "sql1:7480",
	}
	if got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Config)
		want   string // "" if it is right
	}{
		{"default with a directory", func(*Config) {}, ""},
		{"no directory", func(c *Config) { c.DataDir = "" }, "data_dir must name"},
		{"relative directory", func(c *Config) { c.DataDir = "data" }, "must be an absolute path"},
		{"long directory", func(c *Config) { c.DataDir = "/" + strings.Repeat("d", 120) }, "too long"},
		{"relative program", func(c *Config) { c.Program = "demodb" }, "program (demodb) must be"},
		{"no port", func(c *Config) { c.Listen = "localhost" }, "listen (localhost) must be"},
		{"any port", func(c *Config) { c.Listen = "localhost:0" }, "listen (localhost:0) must be"},
		{"no host to connect to", func(c *Config) { c.Listen = ":7480" }, "set advertise"},
		{"advertised nowhere", func(c *Config) { c.Advertise = "0.0.0.0:1" }, "must name the host"},
		{"advertised", func(c *Config) { c.Listen, c.Advertise = ":7480", "sql1:7480" }, ""},
	} {
		cfg := Default()
		cfg.DataDir = "/var/lib/demodb"
		c.change(&cfg)
		err := cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}
