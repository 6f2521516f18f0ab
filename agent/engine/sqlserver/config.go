package sqlserver

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/service"
)

// Config is the sqlserver section of an agent's configuration. Which parts of it count depends on the engine:
// sqlserver-mirroring, sqlserver-ag or sqlserver-rescue.
type Config struct {
	// Listen is where clients reach the instance on this host, host:port; it is what the agent's fence guards.
	Listen string `yaml:"listen"`
	// Advertise is where clients and the partner's agent reach it; "" is Listen.
	Advertise string `yaml:"advertise"`
	// Connect is where this agent connects, host:port; "" is Listen, on the loopback if that takes every address.
	Connect string `yaml:"connect"`

	// User is the login of deploy/sqlserver/create-login.sql. On Windows it may be empty: then the agent logs in as
	// the account that its service runs as.
	User string `yaml:"user"`
	// PasswordFile holds the login's password; it is read again for every new connection.
	PasswordFile string `yaml:"password_file"`
	// PasswordEnv names an environment variable that holds it instead.
	PasswordEnv string `yaml:"password_env"`
	// Encrypt is strict (TDS 8, from SQL Server 2022 on), true, false (only the login) or disable (over the loopback
	// only).
	Encrypt string `yaml:"encrypt"`
	// Certificate is a PEM file of the authority that signed the server's certificate, or of that certificate
	// itself; "" is the system's authorities. There is no way to trust just any certificate.
	Certificate string `yaml:"certificate"`

	// Databases are the ones that move together, in the order in which they move; empty is all mirrored databases of
	// the instance, by name. Not for sqlserver-ag: there it is the group's.
	Databases []string `yaml:"databases"`
	// Sets are names for some of the databases, for people: User: [rtcab, rtcxds, rtcshared].
	Sets map[string][]string `yaml:"sets"`
	// Exclude are databases that are left out.
	Exclude []string `yaml:"exclude"`
	// Probe are databases in which the agent writes one row every five seconds, to see that their disks take writes.
	// deploy/sqlserver/create-login.sql makes the table; empty probes nothing.
	Probe []string `yaml:"probe"`

	// HealthLevel is the failure-condition level, as of availability groups, from which on the instance's own judgement
	// (sp_server_diagnostics) counts as a failure: 1 only its end, 2 no answer as well, 3 also component system in
	// error, 4 also resource, 5 also query_processing. It counts only while the mirror has everything, and only when
	// it lasts for several leases.
	HealthLevel int `yaml:"health_level"`

	// Group is the availability group's name (sqlserver-ag).
	Group string `yaml:"group"`
	// WriteLease is the write lease that the group was created with (sqlserver-ag, SQL Server 2019 and later); 0 is
	// none.
	WriteLease time.Duration `yaml:"write_lease"`
	// Policy is bounded or strict (sqlserver-mirroring). Bounded promotes the mirror of a primary that is gone
	// without proof that nothing was lost, and says for how many seconds at most commits may be missing; strict
	// waits for a person.
	Policy string `yaml:"policy"`

	Service service.Config `yaml:"service"`
	Rescue  RescueConfig   `yaml:"rescue"`
	Target  TargetConfig   `yaml:"target"`

	// SocketMark marks the agent's connections, so that the host's own fence lets them pass (Linux). The agent sets it.
	SocketMark uint32 `yaml:"-"`
	// StateFile is what the engine must not forget. The agent sets it.
	StateFile string `yaml:"-"`
}

// RescueConfig is how SQL Server's own witness is looked after (sqlserver-rescue).
type RescueConfig struct {
	// Witness is the witness that the sessions have in good times, TCP://host:port; "" is the one that they had when
	// the agent first looked.
	Witness string `yaml:"witness"`
	// Spares are witnesses that may take its place, in the order in which they are tried. Each is a SQL Server
	// instance with a mirroring endpoint for the role WITNESS that lets both partners connect.
	Spares []string `yaml:"spares"`
	// Patience is for how long the witness must be gone before it is taken out.
	Patience time.Duration `yaml:"patience"`
	// ReturnAfter is for how long the first witness must have answered before it gets its place back.
	ReturnAfter time.Duration `yaml:"return_after"`
}

// TargetConfig is what a failover may take and lose before a warning says so.
type TargetConfig struct {
	Recovery time.Duration `yaml:"recovery"` // until the mirror would serve (RTO)
	Point    time.Duration `yaml:"point"`    // worth of log that the mirror lacks (RPO)
}

// The policies of sqlserver-mirroring.
const (
	PolicyBounded = "bounded"
	PolicyStrict  = "strict"
)

// The ways to encrypt.
const (
	encryptStrict  = "strict"
	encryptTrue    = "true"
	encryptFalse   = "false"
	encryptDisable = "disable"
)

// Default is what a configuration that says nothing means.
func Default() Config {
	return Config{
		Encrypt: encryptTrue,
		Policy:  PolicyBounded, HealthLevel: LevelSystem,
		Rescue: RescueConfig{Patience: 10 * time.Second, ReturnAfter: 10 * time.Minute},
		Target: TargetConfig{Recovery: 5 * time.Minute, Point: 5 * time.Minute},
	}
}

// Address is where others reach the instance.
func (c Config) Address() string {
	if c.Advertise != "" {
		return c.Advertise
	}
	return c.Listen
}

// ConnectAddress is where the agent connects.
func (c Config) ConnectAddress() string {
	if c.Connect != "" {
		return c.Connect
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil && anyHost(host) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return c.Listen
}

// InUnit says whether a database belongs to those that move together.
func (c Config) InUnit(database string) bool {
	if slices.ContainsFunc(c.Exclude, sameName(database)) {
		return false
	}
	return len(c.Databases) == 0 || slices.ContainsFunc(c.Databases, sameName(database))
}

// SetsOf are the names of the sets that a database is in, sorted.
func (c Config) SetsOf(database string) []string {
	var sets []string
	for set, databases := range c.Sets {
		if slices.ContainsFunc(databases, sameName(database)) {
			sets = append(sets, set)
		}
	}
	slices.Sort(sets)
	return sets
}

// Validate says in sentences what is wrong with a configuration for a mode.
func (c Config) Validate(mode Mode) error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	wrong = append(wrong, c.validateAddresses()...)
	wrong = append(wrong, c.validateLogin()...)
	wrong = append(wrong, c.validateDatabases(mode)...)
	switch mode {
	case ModeMirroring:
		if c.Policy != PolicyBounded && c.Policy != PolicyStrict {
			say("policy (%q) must be bounded or strict", c.Policy)
		}
	case ModeAvailability:
		if c.Group == "" {
			say("group must name the availability group")
		}
		if c.WriteLease < 0 || c.WriteLease%time.Second != 0 {
			say("write_lease (%v) must be whole seconds, as the group was created with; 0 is none", c.WriteLease)
		}
	case ModeRescue:
		wrong = append(wrong, c.Rescue.validate()...)
	default:
		say("mode %d is none of mirroring, availability group and rescue", mode)
	}
	if mode != ModeRescue {
		if err := c.Service.Validate(); err != nil {
			say("service: %w", err)
		}
	}
	if c.HealthLevel < LevelDown || c.HealthLevel > LevelProcessing {
		say("health_level (%d) must be from 1 (only the end of the process) to 5", c.HealthLevel)
	}
	if c.Target.Recovery <= 0 || c.Target.Point <= 0 {
		say("target.recovery (%v) and target.point (%v) must be more than 0", c.Target.Recovery, c.Target.Point)
	}
	return errors.Join(wrong...)
}

func (c Config) validateAddresses() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, a := range []struct{ key, address string }{
		{"listen", c.Listen}, {"advertise", c.Advertise}, {"connect", c.Connect},
	} {
		if err := checkAddress(a.address); err != nil && (a.key == "listen" || a.address != "") {
			say("%s (%q) must be host:port, also for a named instance, which needs a fixed port: %w", a.key, a.address, err)
		}
	}
	if host, _, err := net.SplitHostPort(c.Advertise); err == nil && anyHost(host) {
		say("advertise (%q) must name a host: the partner's agent connects to it", c.Advertise)
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && anyHost(host) && c.Advertise == "" {
		say("listen (%q) takes every address, so advertise must say by which one others come", c.Listen)
	}
	return wrong
}

func (c Config) validateLogin() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	switch {
	case c.User == "" && runtime.GOOS != "windows":
		say("user must name a login of the SQL Server (deploy/sqlserver/create-login.sql makes one)")
	case c.User == "" && (c.PasswordFile != "" || c.PasswordEnv != ""):
		say("user is empty, so the agent logs in as its Windows account: leave password_file and password_env empty")
	case c.User != "" && (c.PasswordFile == "") == (c.PasswordEnv == ""):
		say("exactly one of password_file and password_env must be set")
	}
	for key, path := range map[string]string{"password_file": c.PasswordFile, "certificate": c.Certificate} {
		if path != "" && !filepath.IsAbs(path) {
			say("%s (%q) must be an absolute path", key, path)
		}
	}
	if !slices.Contains([]string{encryptStrict, encryptTrue, encryptFalse, encryptDisable}, c.Encrypt) {
		say("encrypt (%q) must be strict, true, false or disable", c.Encrypt)
	}
	return wrong
}

func (c Config) validateDatabases(mode Mode) (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if mode == ModeAvailability && len(c.Databases)+len(c.Exclude) > 0 {
		say("databases and exclude must be empty: an availability group moves as a whole")
	}
	for i, database := range c.Databases {
		switch {
		case database == "":
			say("databases has an empty name")
		case slices.ContainsFunc(c.Databases[:i], sameName(database)):
			say("databases names %s twice", database)
		case slices.ContainsFunc(c.Exclude, sameName(database)):
			say("%s is in databases and in exclude", database)
		}
	}
	for set, databases := range c.Sets {
		for _, database := range databases {
			if len(c.Databases) > 0 && !c.InUnit(database) && !slices.ContainsFunc(c.Exclude, sameName(database)) {
				say("sets.%s names %s, which is not in databases", set, database)
			}
		}
	}
	return wrong
}

func (r RescueConfig) validate() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for i, address := range r.Spares {
		if _, err := DialAddress(address); err != nil {
			say("rescue.spares: %w", err)
		}
		if SamePartnerAddress(address, r.Witness) {
			say("rescue.spares names the witness itself (%s)", address)
		}
		if slices.ContainsFunc(r.Spares[:i], func(s string) bool { return SamePartnerAddress(s, address) }) {
			say("rescue.spares names %s twice", address)
		}
	}
	if r.Witness != "" {
		if _, err := DialAddress(r.Witness); err != nil {
			say("rescue.witness: %w", err)
		}
	}
	if r.Patience < time.Second {
		say("rescue.patience (%v) must be at least 1s: a witness that only restarts should keep its place", r.Patience)
	}
	if r.ReturnAfter < r.Patience {
		say("rescue.return_after (%v) must not be less than rescue.patience (%v), or a witness that comes and goes "+
			"would be taken out and put back again and again", r.ReturnAfter, r.Patience)
	}
	return wrong
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return nil
}

func anyHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "*" || ip != nil && ip.IsUnspecified()
}
