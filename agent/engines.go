package agent

import (
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo"
	"github.com/witnessd/witnessd/agent/engine/postgres"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/availability"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/mirroring"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/rescue"
	"github.com/witnessd/witnessd/agent/fence"
)

// What Instance.Engine may be.
const (
	enginePostgres  = "postgres"
	engineMirroring = "sqlserver-mirroring"
	engineGroup     = "sqlserver-ag"
	engineRescue    = "sqlserver-rescue"
	engineDemo      = "demo"
)

func (i Instance) validate() error {
	switch i.Engine {
	case enginePostgres:
		return i.Postgres.Validate()
	case engineMirroring:
		return i.SQLServer.Validate(sqlserver.ModeMirroring)
	case engineGroup:
		return i.SQLServer.Validate(sqlserver.ModeAvailability)
	case engineRescue:
		return i.SQLServer.Validate(sqlserver.ModeRescue)
	case engineDemo:
		return i.Demo.Validate()
	default:
		return fmt.Errorf("engine (%q) must be %s, %s, %s, %s or %s", i.Engine, enginePostgres, engineMirroring,
			engineGroup, engineRescue, engineDemo)
	}
}

func (a *Agent) newEngine(c Instance) (engine.Engine, error) {
	log := a.log.With("instance", c.Name, "engine", c.Engine)
	c.SQLServer.SocketMark = fence.AgentMark
	c.SQLServer.StateFile = filepath.Join(a.config.StateDir, c.Name+".sqlserver")
	switch c.Engine {
	case enginePostgres:
		c.Postgres.StateFile = filepath.Join(a.config.StateDir, c.Name+".reached")
		return postgres.New(c.Postgres, log)
	case engineMirroring:
		return mirroring.New(c.SQLServer, log)
	case engineGroup:
		return availability.New(c.SQLServer, log)
	case engineRescue:
		return rescue.New(c.SQLServer, log)
	case engineDemo:
		return demo.New(c.Demo, log)
	default:
		return nil, fmt.Errorf("engine %q is not known", c.Engine)
	}
}

// newExaminer makes what looks at an instance for the doctor; nil for an engine that needs none.
func newExaminer(c Instance) (engine.Examiner, error) {
	if c.Engine == enginePostgres {
		return postgres.NewExaminer(c.Postgres, slog.New(slog.DiscardHandler))
	}
	return nil, nil
}

// listen is where the instance's database takes clients.
func (i Instance) listen() string {
	switch i.Engine {
	case enginePostgres:
		return i.Postgres.Listen
	case engineMirroring, engineGroup, engineRescue:
		return i.SQLServer.Listen
	default:
		return i.Demo.Listen
	}
}

// watched says whether the agent only looks at the instance. Its port is nobody's business then, and least of all the
// fence's.
func (i Instance) watched() bool { return i.Engine == engineRescue }

// uid is whom the instance's database runs as; its own programs may reach a partner's database.
func (i Instance) uid() uint32 {
	name := ""
	switch i.Engine {
	case enginePostgres:
		name = i.Postgres.OSUser
	case engineMirroring, engineGroup, engineRescue:
		name = "mssql" // as Microsoft's packages for Linux have it
	}
	if u, err := user.Lookup(name); name != "" && err == nil {
		if n, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
			return uint32(n)
		}
	}
	return uint32(os.Geteuid())
}
