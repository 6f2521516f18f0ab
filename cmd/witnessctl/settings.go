package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// Names of the environment's part of the settings.
const (
	envEndpoints = "WITNESS_ENDPOINTS"
	envConfig    = "WITNESSCTL_CONFIG"
	configName   = "witnessctl.yaml"
)

// Where nothing else is said.
const (
	// defaultTimeout lets four nodes say that there is no leader, each of which waits for an election first.
	defaultTimeout = 10 * time.Second
	// defaultEndpoint is the API of a node on this machine.
	defaultEndpoint = "localhost:7401"
)

// The forms of output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// settings say which witness and how to show things. A flag counts before the environment, and the
// environment before the file.
type settings struct {
	Endpoints []string      `yaml:"endpoints"`
	Timeout   time.Duration `yaml:"timeout"`
	Output    string        `yaml:"output"`
	Color     bool          `yaml:"color"`
}

// globals are the flags of every command.
type globals struct {
	endpoints []string
	config    string
	timeout   time.Duration
	output    string
	noColor   bool
	by        string
}

func (g *globals) define(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&g.endpoints, "endpoint", "e", nil,
		"`host:port` of a node's API; repeat it or separate by commas; any node will do (env "+envEndpoints+
			"; default "+defaultEndpoint+")")
	flags.StringVar(&g.config, "config", "", "configuration `file` (env "+envConfig+
		"; default ~/.config/"+configName+")")
	flags.DurationVar(&g.timeout, "timeout", 0, "how long to try for an answer (default "+defaultTimeout.String()+")")
	flags.StringVarP(&g.output, "output", "o", "", "`form` of the output: table, json or yaml (default table)")
	flags.BoolVar(&g.noColor, "no-color", false, "no colors (env NO_COLOR)")
	flags.StringVar(&g.by, "by", "", "`who` asks, for the history of the witness (default user@host)")
}

// load puts the settings together once.
func (r *run) load() (*settings, error) {
	if r.settings != nil {
		return r.settings, nil
	}
	s := &settings{Timeout: defaultTimeout, Output: outputTable, Color: true}
	if err := r.loadFile(s); err != nil {
		return nil, err
	}
	if list := strings.TrimSpace(r.getenv(envEndpoints)); list != "" {
		s.Endpoints = strings.Split(list, ",")
	}
	if len(r.globals.endpoints) > 0 {
		s.Endpoints = r.globals.endpoints
	}
	for i, e := range s.Endpoints {
		s.Endpoints[i] = strings.TrimSpace(e)
	}
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e string) bool { return e == "" })
	if len(s.Endpoints) == 0 {
		s.Endpoints = []string{defaultEndpoint}
	}
	r.globals.by = cmp.Or(r.globals.by, r.by)
	s.Timeout = cmp.Or(r.globals.timeout, s.Timeout)
	s.Output = cmp.Or(r.globals.output, s.Output)
	if r.globals.noColor || r.getenv("NO_COLOR") != "" || r.getenv("TERM") == "dumb" {
		s.Color = false
	}
	if !slices.Contains([]string{outputTable, outputJSON, outputYAML}, s.Output) {
		return nil, usagef("output %q is not table, json or yaml", s.Output)
	}
	if s.Timeout <= 0 {
		return nil, usagef("timeout %v is not above zero", s.Timeout)
	}
	r.settings = s
	return s, nil
}

// loadFile reads the configuration file strictly: a key that is not known is a mistake, not a comment.
func (r *run) loadFile(s *settings) error {
	path := cmp.Or(r.globals.config, r.getenv(envConfig))
	asked := path != ""
	if !asked {
		dir := r.getenv("XDG_CONFIG_HOME")
		if dir == "" {
			if r.home == "" {
				return nil
			}
			dir = filepath.Join(r.home, ".config")
		}
		path = filepath.Join(dir, configName)
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
		return nil
	case err != nil:
		return &usageError{text: fmt.Sprintf("read configuration: %v", err),
			do: "name a file that is there with --config or " + envConfig}
	}
	read := *s
	err = yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&read)
	switch {
	case errors.Is(err, io.EOF): // nothing but comments
	case err == nil:
		*s = read
	default:
		text := yaml.FormatError(err, false, false)
		if strings.HasPrefix(text, "time: ") {
			text = "timeout: " + text // the only duration, and the decoder does not say where
		}
		return &usageError{text: fmt.Sprintf("configuration %s: %s", path, text),
			do: "the file may say endpoints, timeout, output and color: see docs/witnessctl.md"}
	}
	return nil
}
