package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

// defaultConfig is where an installation puts the configuration.
const defaultConfig = `C:\ProgramData\witnessd\witness-agent.yaml`

// serviceName is the agent's name with the service control manager, and its source in the event log.
const serviceName = "witness-agent"

const (
	// restartAfter is when Windows starts an agent again that has failed: within the shortest lease.
	restartAfter = time.Second
	// stopPatience bounds the wait for a service that was told to stop.
	stopPatience = 20 * time.Second
)

// guardian starts the guard of this agent's host.
func guardian(config string) func() error {
	return func() error { return leaveBehind(config, "fence", "guard") }
}

func serviceCommands() []*cobra.Command {
	cmd := &cobra.Command{Use: "service", Short: "Install the agent as a Windows service, start it, stop it, remove it"}
	cmd.AddCommand(serviceInstall(), serviceRun(),
		serviceVerb("uninstall", "Remove the service; the databases stay as they are", uninstall),
		serviceVerb("start", "Start the service", func(s *mgr.Service) error { return s.Start() }),
		serviceVerb("stop", "Stop the service; databases are left as they are, for the next start within the lease", stopService),
		serviceVerb("status", "Say whether the service runs", printStatus))
	return []*cobra.Command{cmd}
}

func serviceInstall() *cobra.Command {
	var path, account, password string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the agent as a Windows service that starts at boot and is restarted when it fails",
		Long: `Install the agent as a Windows service. It starts at boot, not delayed, and Windows restarts it one second after
a failure. Without --account it runs as LocalSystem, which may stop and end SQL Server's process; another account
needs these rights on SQL Server's service, and "Log on as a service".`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			config, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("find the configuration: %w", err)
			}
			return install(config, account, password)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` that the service reads")
	cmd.Flags().StringVar(&account, "account", "", `account that it runs as, such as DOMAIN\name (default LocalSystem)`)
	cmd.Flags().StringVar(&password, "password", "", "the account's password; none for a managed service account")
	return cmd
}

func install(config, account, password string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	manager, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("connect to the service control manager (run this as administrator): %w", err)
	}
	defer manager.Disconnect()
	s, err := manager.CreateService(serviceName, self, mgr.Config{
		DisplayName: "Witness agent", StartType: mgr.StartAutomatic, ServiceStartName: account, Password: password,
		Description: "Keeps the right to serve of this host's databases, and ends their service when it ends.",
	}, "service", "run", "--config", config)
	if err != nil {
		return fmt.Errorf("create service %s: %w", serviceName, err)
	}
	defer s.Close()
	again := mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: restartAfter}
	const forgetAfter = 24 * 60 * 60 // seconds
	if err := s.SetRecoveryActions([]mgr.RecoveryAction{again, again, again}, forgetAfter); err != nil {
		return errors.Join(fmt.Errorf("have Windows restart a failed agent: %w", err), s.Delete())
	}
	// Also after an end with an exit code, which is how an agent ends that cannot keep its promises.
	if err := s.SetRecoveryActionsOnNonCrashFailures(true); err != nil {
		fmt.Fprintln(os.Stderr, "witness-agent: it will be restarted after a crash, but not after it ended with an error; "+
			"set that in the service's recovery settings:", err)
	}
	if err := eventlog.InstallAsEventCreate(serviceName, eventlog.Error|eventlog.Warning|eventlog.Info); err != nil {
		// It is there already after an uninstall that could not remove it; the service works without it.
		fmt.Fprintln(os.Stderr, "witness-agent: the event log has no source of ours:", err)
	}
	fmt.Printf("service %s is installed; witness-agent service start starts it\n", serviceName)
	return nil
}

func serviceVerb(use, short string, do func(*mgr.Service) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		manager, err := mgr.Connect()
		if err != nil {
			return fmt.Errorf("connect to the service control manager (run this as administrator): %w", err)
		}
		defer manager.Disconnect()
		s, err := manager.OpenService(serviceName)
		if err != nil {
			return fmt.Errorf("open service %s (witness-agent service install makes it): %w", serviceName, err)
		}
		defer s.Close()
		if err := do(s); err != nil {
			return fmt.Errorf("%s service %s: %w", use, serviceName, err)
		}
		return nil
	}}
}

func uninstall(s *mgr.Service) error {
	if err := stopService(s); err != nil {
		return err
	}
	return errors.Join(s.Delete(), eventlog.Remove(serviceName))
}

func stopService(s *mgr.Service) error {
	_, err := s.Control(svc.Stop)
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return err
	}
	for until := time.Now().Add(stopPatience); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		st, err := s.Query()
		if err != nil || st.State == svc.Stopped {
			return err
		}
	}
	return fmt.Errorf("it has not stopped within %v", stopPatience)
}

func printStatus(s *mgr.Service) error {
	st, err := s.Query()
	if err != nil {
		return err
	}
	words := map[svc.State]string{
		svc.Stopped: "stopped", svc.StartPending: "starting", svc.StopPending: "stopping", svc.Running: "running",
	}
	word, ok := words[st.State]
	if !ok {
		word = fmt.Sprintf("in state %d", st.State)
	}
	fmt.Printf("service %s is %s", serviceName, word)
	if st.ProcessId > 0 {
		fmt.Printf(", process %d", st.ProcessId)
	}
	fmt.Println()
	return nil
}

// serviceRun is what the service control manager starts. It is told so instead of finding out: what a process can see of
// its parent differs between versions of Windows.
func serviceRun() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "run", Short: "Run under the service control manager", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			log, err := eventlog.Open(serviceName)
			if err != nil {
				return fmt.Errorf("open the event log: %w", err)
			}
			defer log.Close()
			s := &service{config: path, log: log}
			return errors.Join(svc.Run(serviceName, s), s.err)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
	return cmd
}

// service is the agent as the service control manager sees it.
type service struct {
	config string
	log    *eventlog.Log
	err    error
}

// eventID is the id of every entry; the text says what it is about.
const eventID = 1

// Execute runs the agent until it is told to stop. Databases are then left as they are: the next start, after an
// upgrade, takes over within the lease.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- runAgent(ctx, s.config, eventWriter{s.log}) }()
	running := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	changes <- running
	_ = s.log.Info(eventID, "agent started with "+s.config)
	for {
		select {
		case err := <-ended:
			if s.err = err; err != nil {
				_ = s.log.Error(eventID, err.Error())
				return true, uint32(exitCode(err))
			}
			return false, 0
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				changes <- running
			case svc.Stop, svc.Shutdown:
				changes <- svc.Status{State: svc.StopPending}
				cancel()
			}
		}
	}
}

// eventWriter puts the agent's log into the event log, a line an entry, each with the level that the line names.
type eventWriter struct{ log *eventlog.Log }

func (w eventWriter) Write(line []byte) (int, error) {
	text := string(line)
	write := w.log.Info
	switch {
	case strings.Contains(text, "level=ERROR"), strings.Contains(text, `"level":"ERROR"`):
		write = w.log.Error
	case strings.Contains(text, "level=WARN"), strings.Contains(text, `"level":"WARN"`):
		write = w.log.Warning
	}
	if err := write(eventID, text); err != nil {
		return 0, err
	}
	return len(line), nil
}

var _ io.Writer = eventWriter{}
