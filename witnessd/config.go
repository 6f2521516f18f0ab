package witnessd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/webhook"
)

// Config is the configuration file of a node. deploy/config/witnessd.yaml explains every key.
type Config struct {
	Node    string       `yaml:"node"`
	DataDir string       `yaml:"data_dir"`
	Join    bool         `yaml:"join"`
	Nodes   []NodeConfig `yaml:"nodes"`
	Raft    Raft         `yaml:"raft"`
	API     Listen       `yaml:"api"`
	HTTP    HTTP         `yaml:"http"`
	Fencing Fencing      `yaml:"fencing"`
	// Webhooks are the same in each node's file: whichever leads calls them.
	Webhooks []Webhook `yaml:"webhooks"`
	Log      Log       `yaml:"log"`
}

// NodeConfig names one of the first nodes.
type NodeConfig struct {
	ID   string `yaml:"id"`
	Raft string `yaml:"raft"`
	API  string `yaml:"api"`
}

// Listen is where a service listens and how others reach it; empty means as it listens.
type Listen struct {
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"`
}

// Raft is how the nodes talk to each other.
type Raft struct {
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"`
	Profile   string `yaml:"profile"`
}

// HTTP is where metrics and health are served; empty: nowhere.
type HTTP struct {
	Listen string `yaml:"listen"`
}

// Fencing is the command that cuts a host off its clients (rule R14).
type Fencing struct {
	Command []string      `yaml:"command"`
	Timeout time.Duration `yaml:"timeout"`
}

// Webhook is called over HTTP with what happens to pairs, see package webhook.
type Webhook struct {
	Name       string        `yaml:"name"`
	URL        string        `yaml:"url"`
	SecretFile string        `yaml:"secret_file"`
	Events     []string      `yaml:"events"`
	Pairs      []string      `yaml:"pairs"`
	Timeout    time.Duration `yaml:"timeout"`
}

// Log is how the node logs.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// DefaultConfig is what is in force where the file says nothing.
func DefaultConfig() Config {
	return Config{
		DataDir: "/var/lib/witnessd",
		Raft:    Raft{Listen: ":7400", Profile: "local"},
		API:     Listen{Listen: ":7401"},
		HTTP:    HTTP{Listen: "127.0.0.1:7402"},
		Fencing: Fencing{Timeout: 30 * time.Second},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// LoadConfig reads and checks a configuration file.
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

// ParseConfig decodes strictly on top of the defaults and checks the result. An unknown key is an error that
// says which and where.
func ParseConfig(raw []byte) (Config, error) {
	c := DefaultConfig()
	err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&c)
	if errors.Is(err, io.EOF) {
		c, err = DefaultConfig(), nil // the decoder leaves zeroes behind where a file says nothing at all
	}
	if err != nil {
		text := yaml.FormatError(err, false, true)
		if strings.HasPrefix(text, "time: ") {
			text = "fencing.timeout or webhooks.timeout: " + text // the only durations; the decoder does not say where
		}
		if strings.Contains(text, "time.Duration") || strings.Contains(text, ": time: ") {
			text += "\nwrite a duration with its unit, such as 30s"
		}
		return Config{}, errors.New(text)
	}
	c.advertise()
	c.completeWebhooks()
	if bad := c.Validate(); len(bad) > 0 {
		return Config{}, errors.New(strings.Join(bad, "; "))
	}
	return c, nil
}

// advertise completes what the file may leave to the list of nodes.
func (c *Config) advertise() {
	i := slices.IndexFunc(c.Nodes, func(n NodeConfig) bool { return n.ID == c.Node })
	if i >= 0 && c.Raft.Advertise == "" {
		c.Raft.Advertise = c.Nodes[i].Raft
	}
	if i >= 0 && c.API.Advertise == "" {
		c.API.Advertise = c.Nodes[i].API
	}
}

// completeWebhooks gives each its defaults; an empty list and none mean the same.
func (c *Config) completeWebhooks() {
	if len(c.Webhooks) == 0 {
		c.Webhooks = nil
	}
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		h.Timeout = cmp.Or(h.Timeout, webhook.DefaultTimeout)
		if len(h.Events) == 0 {
			h.Events = nil
		}
		if len(h.Pairs) == 0 {
			h.Pairs = nil
		}
	}
}

// Print renders the configuration in force.
func (c Config) Print() (string, error) {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("print configuration: %w", err)
	}
	return string(raw), nil
}

// Validate says, in sentences, what cannot work.
func (c Config) Validate() []string {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	check(nodeName(c.Node), "node (%q) must be a name of up to 63 letters, digits, '-', '_' and '.'", c.Node)
	check(c.DataDir != "", "data_dir must name a directory")
	check(listens(c.Raft.Listen), "raft.listen (%q) must be host:port or :port", c.Raft.Listen)
	check(dials(c.Raft.Advertise), "raft.advertise (%q) must be host:port as the other nodes dial it", c.Raft.Advertise)
	_, known := timings()[c.Raft.Profile]
	check(known, "raft.profile (%q) must be local or wide", c.Raft.Profile)
	check(listens(c.API.Listen), "api.listen (%q) must be host:port or :port", c.API.Listen)
	check(dials(c.API.Advertise), "api.advertise (%q) must be host:port as agents and the other nodes dial it",
		c.API.Advertise)
	check(c.HTTP.Listen == "" || listens(c.HTTP.Listen),
		"http.listen (%q) must be host:port, :port or empty", c.HTTP.Listen)
	check(c.Fencing.Timeout >= time.Second && c.Fencing.Timeout <= time.Minute,
		"fencing.timeout (%v) must be between 1s and 1m, the time that a forced failover waits", c.Fencing.Timeout)
	check(len(c.Fencing.Command) == 0 || c.Fencing.Command[0] != "", "fencing.command must begin with a program")
	check(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level),
		"log.level (%q) must be debug, info, warn or error", c.Log.Level)
	check(slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format (%q) must be text or json", c.Log.Format)
	return append(append(bad, c.validateNodes()...), c.validateWebhooks()...)
}

func (c Config) validateWebhooks() []string {
	var bad []string
	seen := map[string]bool{}
	for _, h := range c.Webhooks {
		bad = append(bad, webhook.Hook(h).Validate()...)
		if seen[h.Name] {
			bad = append(bad, fmt.Sprintf("webhooks: name %s is given twice", h.Name))
		}
		seen[h.Name] = true
	}
	return bad
}

func (c Config) validateNodes() []string {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	check(c.Join || len(c.Nodes) > 0,
		"nodes must list the first nodes of the witness; a node that is added later sets join: true instead")
	seen := map[string]bool{}
	for _, n := range c.Nodes {
		check(nodeName(n.ID), "nodes: id (%q) must be a name of up to 63 letters, digits, '-', '_' and '.'", n.ID)
		check(dials(n.Raft), "nodes: raft (%q) of %s must be host:port", n.Raft, n.ID)
		check(dials(n.API), "nodes: api (%q) of %s must be host:port", n.API, n.ID)
		for _, key := range []string{"id " + n.ID, "address " + n.Raft, "address " + n.API} {
			check(!seen[key], "nodes: %s is given twice", key)
			seen[key] = true
		}
		if n.ID == c.Node {
			check(n.Raft == c.Raft.Advertise, "raft.advertise (%s) must be what nodes says of %s (%s)",
				c.Raft.Advertise, n.ID, n.Raft)
		}
	}
	check(c.Join || len(c.Nodes) == 0 || seen["id "+c.Node], "nodes must list this node (%s) too", c.Node)
	check(len(c.Nodes)%2 == 1 || len(c.Nodes) == 0,
		"nodes lists %d: take an odd number, for an even one stands no more losses than one less", len(c.Nodes))
	return bad
}

// timings are the profiles of the nodes' own timing: within a site, and for round trips of up to 100 ms.
func timings() map[string]raftstore.Timing {
	local := raftstore.DefaultTiming()
	wide := local
	wide.Heartbeat, wide.Election, wide.LeaderLease = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	return map[string]raftstore.Timing{"local": local, "wide": wide}
}

func nodeName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			return false
		}
		return true
	})
}

func listens(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}

func dials(address string) bool {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && host != "" && port != "" && port != "0" && (ip == nil || !ip.IsUnspecified())
}
