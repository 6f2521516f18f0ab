package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/witnessd/witnessd/agent/engine/demo"
	"github.com/witnessd/witnessd/agent/engine/postgres"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// Config is the agent's configuration file. deploy/config/witness-agent.yaml explains every key.
type Config struct {
	Host      string     `yaml:"host"`
	StateDir  string     `yaml:"state_dir"`
	RunDir    string     `yaml:"run_dir"`
	Witness   Witness    `yaml:"witness"`
	Link      Listen     `yaml:"link"`
	HTTP      HTTP       `yaml:"http"`
	Log       Log        `yaml:"log"`
	Fence     Fence      `yaml:"fence"`
	Hooks     []Hook     `yaml:"hooks"`
	Instances []Instance `yaml:"instances"`
}

// Witness says where the nodes are.
type Witness struct {
	Endpoints []string `yaml:"endpoints"`
}

// Listen is where the agent listens for its partners, and where they reach it.
type Listen struct {
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"`
}

// HTTP is where load balancers and Prometheus ask; empty turns it off.
type HTTP struct {
	Listen string `yaml:"listen"`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Instance is one database instance on this host. Only the section of its engine is read: sqlserver for the three
// engines whose names begin so, else the one that is called like the engine.
type Instance struct {
	Name      string           `yaml:"name"`
	Engine    string           `yaml:"engine"`
	Gate      Gate             `yaml:"gate"`
	Postgres  postgres.Config  `yaml:"postgres"`
	SQLServer sqlserver.Config `yaml:"sqlserver"`
	Demo      demo.Config      `yaml:"demo"`
}

// DefaultConfig is what an empty file means.
func DefaultConfig() Config {
	return Config{
		StateDir: defaultStateDir,
		RunDir:   defaultRunDir,
		Link:     Listen{Listen: ":7412"},
		HTTP:     HTTP{Listen: "127.0.0.1:7413"},
		Log:      Log{Level: "info", Format: "text"},
		Fence:    Fence{Level: FenceAuto, Table: "witness_agent", MirrorReads: true},
	}
}

// UnmarshalYAML fills in the engines' defaults before the file's own values.
func (i *Instance) UnmarshalYAML(raw []byte) error {
	type plain Instance
	v := plain{
		Gate: DefaultGate(), Postgres: postgres.Default(), SQLServer: sqlserver.Default(), Demo: demo.Default(),
	}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&v); err != nil {
		return err
	}
	*i = Instance(v)
	return nil
}

// LoadConfig reads and checks a configuration file. An unknown key is an error that names it.
func LoadConfig(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig decodes strictly on top of the defaults and checks the result.
func ParseConfig(raw []byte) (Config, error) {
	c := DefaultConfig()
	err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&c)
	if errors.Is(err, io.EOF) {
		c, err = DefaultConfig(), nil // the decoder leaves zeroes behind where a file says nothing at all
	}
	if err != nil {
		return Config{}, err
	}
	if c.Link.Advertise == "" {
		c.Link.Advertise = c.Link.Listen
	}
	if bad := c.Validate(); len(bad) > 0 {
		return Config{}, errors.New(strings.Join(bad, "; "))
	}
	return c, nil
}

// Print renders the configuration in force, without the sections of engines that are not used.
func (c Config) Print() (string, error) {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("print configuration: %w", err)
	}
	return string(raw), nil
}

// MarshalYAML prints only the section of the engine in use.
func (i Instance) MarshalYAML() (any, error) {
	m := yaml.MapSlice{{Key: "name", Value: i.Name}, {Key: "engine", Value: i.Engine}, {Key: "gate", Value: i.Gate}}
	switch i.Engine {
	case enginePostgres:
		m = append(m, yaml.MapItem{Key: i.Engine, Value: i.Postgres})
	case engineMirroring, engineGroup, engineRescue:
		m = append(m, yaml.MapItem{Key: "sqlserver", Value: i.SQLServer})
	case engineDemo:
		m = append(m, yaml.MapItem{Key: i.Engine, Value: i.Demo})
	}
	return m, nil
}

// Validate says in sentences what is wrong; nil means nothing.
func (c Config) Validate() []string {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	check(c.Host != "", "host must name this host as pairs name it")
	check(filepath.IsAbs(c.StateDir), "state_dir (%q) must be an absolute path", c.StateDir)
	check(filepath.IsAbs(c.RunDir), "run_dir (%q) must be an absolute path", c.RunDir)
	check(len(c.Witness.Endpoints) > 0, "witness.endpoints must name the nodes of the witness (host:port each)")
	for _, e := range c.Witness.Endpoints {
		check(hostPort(e), "witness.endpoints: %q must be host:port", e)
	}
	check(hostPort(c.Link.Advertise), "link.advertise (%q) must be host:port that the partner host reaches; "+
		"link.listen without a host cannot stand in for it", c.Link.Advertise)
	check(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level),
		"log.level (%q) must be debug, info, warn or error", c.Log.Level)
	check(slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format (%q) must be text or json", c.Log.Format)
	c.Fence.validate(check)
	for i, h := range c.Hooks {
		h.validate(i, check)
	}
	check(len(c.Instances) > 0, "instances must name at least one database instance")
	seen := map[string]bool{}
	for i, in := range c.Instances {
		check(in.Name != "", "instances[%d].name must be set", i)
		// It names files.
		check(in.Name == "" || filepath.Base(in.Name) == in.Name && !strings.HasPrefix(in.Name, "."),
			"instances[%d].name (%q) must not contain a slash or begin with a dot", i, in.Name)
		check(!seen[in.Name], "instances: name %q is used twice", in.Name)
		seen[in.Name] = true
		in.Gate.validate(fmt.Sprintf("instances[%d] (%s): gate", i, in.Name), check)
		if err := in.validate(); err != nil {
			text := strings.ReplaceAll(err.Error(), "\n", "; ")
			bad = append(bad, fmt.Sprintf("instances[%d] (%s): %s", i, in.Name, text))
		}
	}
	return bad
}

func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && port != ""
}
