package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/witnessd/witnessd/agent/engine"
)

const (
	// exitQueue is how many ends wait for a reader; if more do, the oldest goes.
	exitQueue = 16
	// killPause is the wait between two looks at a service that changes its state.
	killPause = 5 * time.Millisecond
)

// windowsService is a Service on Windows' service control manager and process handles.
type windowsService struct {
	name    string
	log     *slog.Logger
	exits   chan engine.Exit
	watches sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*handle // by run
	closed bool
	stop   windows.Handle // event: the watches end
}

// handle means one process, also when its number has been given to another.
type handle struct {
	pid     int
	run     string
	process windows.Handle
	gone    chan struct{} // closed when it has ended
	asked   bool          // guarded by windowsService.mu
}

func open(c Config, log *slog.Logger) (Service, error) {
	if c.WindowsService == "" {
		return nil, errors.New("service: set windows_service; unit and command are for Linux")
	}
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("make an event: %w", err)
	}
	return &windowsService{
		name: c.WindowsService, log: log, exits: make(chan engine.Exit, exitQueue), known: map[string]*handle{}, stop: stop,
	}, nil
}

// with opens the service with no more rights than are asked for.
func (s *windowsService) with(access uint32, do func(*mgr.Service) error) error {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return fmt.Errorf("open the service control manager: %w", err)
	}
	defer windows.CloseServiceHandle(manager)
	name, err := windows.UTF16PtrFromString(s.name)
	if err != nil {
		return err
	}
	h, err := windows.OpenService(manager, name, access)
	if err != nil {
		return fmt.Errorf("open service %s: %w (sc query lists them; the agent's account needs the right)", s.name, err)
	}
	service := &mgr.Service{Name: s.name, Handle: h}
	defer service.Close()
	return do(service)
}

func (s *windowsService) status() (st svc.Status, err error) {
	err = s.with(windows.SERVICE_QUERY_STATUS, func(service *mgr.Service) error {
		st, err = service.Query()
		return err
	})
	return st, err
}

func (s *windowsService) Exits() <-chan engine.Exit { return s.exits }

// Look finds the service's process and watches it.
func (s *windowsService) Look(context.Context) (Process, error) {
	st, err := s.status()
	if err != nil {
		return Process{}, err
	}
	if st.ProcessId == 0 {
		return Process{}, nil
	}
	h, err := s.take(int(st.ProcessId))
	if errors.Is(err, errEnded) {
		return Process{}, nil
	}
	if err != nil {
		return Process{}, fmt.Errorf("take hold of process %d of %s: %w", st.ProcessId, s.name, err)
	}
	return Process{PID: h.pid, Run: h.run, Running: true}, nil
}

// errEnded says that a process has ended.
var errEnded = errors.New("the process has ended")

// take returns the handle of a process, and watches one that is new.
func (s *windowsService) take(pid int) (*handle, error) {
	const access = windows.SYNCHRONIZE | windows.PROCESS_TERMINATE | windows.PROCESS_QUERY_LIMITED_INFORMATION
	process, err := windows.OpenProcess(access, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, errEnded // there is no such process
	}
	if err != nil {
		return nil, err
	}
	// The service control manager goes on naming a process for a while after its end, and holds it open.
	if event, err := windows.WaitForSingleObject(process, 0); err != nil || event == windows.WAIT_OBJECT_0 {
		return nil, errors.Join(errEnded, err, windows.CloseHandle(process))
	}
	var created, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(process, &created, &ended, &kernel, &user); err != nil {
		return nil, errors.Join(err, windows.CloseHandle(process))
	}
	run := fmt.Sprintf("%d-%d", pid, created.Nanoseconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.known[run]; h != nil {
		return h, windows.CloseHandle(process)
	}
	if s.closed {
		return nil, errors.Join(errors.New("the service is closed"), windows.CloseHandle(process))
	}
	h := &handle{pid: pid, run: run, process: process, gone: make(chan struct{})}
	s.known[run] = h
	s.watches.Go(func() { s.watch(h) })
	return h, nil
}

// watch waits for the end of a process and tells it, unless it was asked for. It costs a thread: there is one for each
// SQL Server instance.
func (s *windowsService) watch(h *handle) {
	event, err := windows.WaitForMultipleObjects([]windows.Handle{h.process, s.stop}, false, windows.INFINITE)
	s.mu.Lock()
	delete(s.known, h.run)
	asked := h.asked
	s.mu.Unlock()
	ended := err == nil && event == windows.WAIT_OBJECT_0
	var code uint32
	if ended {
		_ = windows.GetExitCodeProcess(h.process, &code) // for people only
		close(h.gone)
	}
	if err := windows.CloseHandle(h.process); err != nil {
		s.log.Warn("close the handle of a process", "pid", h.pid, "error", err)
	}
	if !ended || asked {
		return
	}
	s.log.Warn("SQL Server's process ended", "pid", h.pid, "service", s.name, "exit_code", code)
	exit := engine.Exit{Run: h.run, Reason: fmt.Sprintf("process %d of %s ended with code %d", h.pid, s.name, code)}
	for {
		select {
		case s.exits <- exit:
			return
		default:
		}
		select {
		case <-s.exits:
		default:
		}
	}
}

// Start asks the service control manager, and waits until there is a process.
func (s *windowsService) Start(ctx context.Context) error {
	for {
		p, err := s.Look(ctx)
		if err != nil || p.Running {
			return err
		}
		err = s.with(windows.SERVICE_START, func(service *mgr.Service) error { return service.Start() })
		// It says so also while it has not noticed yet that the process was killed.
		if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return fmt.Errorf("start service %s: %w", s.name, err)
		}
		if err := pause(ctx, killPause); err != nil {
			return fmt.Errorf("start service %s: no process of it is seen: %w", s.name, err)
		}
	}
}

// ask marks the end of the service's process as asked for. Without a process it returns nil.
func (s *windowsService) ask() (*handle, error) {
	st, err := s.status()
	if err != nil || st.ProcessId == 0 {
		return nil, err
	}
	h, err := s.take(int(st.ProcessId))
	if errors.Is(err, errEnded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	h.asked = true
	s.mu.Unlock()
	return h, nil
}

// Stop asks the service to end, and waits until its process has.
func (s *windowsService) Stop(ctx context.Context) error {
	h, err := s.ask()
	if err != nil || h == nil {
		return err
	}
	err = s.with(windows.SERVICE_STOP, func(service *mgr.Service) error {
		_, err := service.Control(svc.Stop)
		return err
	})
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return fmt.Errorf("stop service %s: %w", s.name, err)
	}
	select {
	case <-h.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("service %s has not stopped: %w", s.name, context.Cause(ctx))
	}
}

// Kill terminates the service's process until there is none.
func (s *windowsService) Kill(ctx context.Context) error {
	for {
		h, err := s.ask()
		if err != nil {
			return fmt.Errorf("kill %s: %w", s.name, err)
		}
		if h == nil {
			return nil
		}
		const code = 1
		if err := windows.TerminateProcess(h.process, code); err != nil {
			select {
			case <-h.gone:
				continue // it was quicker
			default:
			}
			if !errors.Is(err, windows.ERROR_ACCESS_DENIED) { // which it is also of one that is ending
				return fmt.Errorf("terminate process %d of %s: %w", h.pid, s.name, err)
			}
		}
		select {
		case <-h.gone:
		case <-ctx.Done():
			return fmt.Errorf("process %d of %s was terminated and is not gone yet: %w", h.pid, s.name, context.Cause(ctx))
		}
	}
}

// RestartGate looks at what the service control manager does by itself.
func (s *windowsService) RestartGate(context.Context) (string, error) {
	var wrong []string
	err := s.with(windows.SERVICE_QUERY_CONFIG, func(service *mgr.Service) error {
		config, err := service.Config()
		if err != nil {
			return err
		}
		if config.StartType == mgr.StartAutomatic {
			wrong = append(wrong, fmt.Sprintf("Windows starts it at boot: sc config %q start= demand", s.name))
		}
		actions, err := service.RecoveryActions()
		if err != nil {
			return err
		}
		for _, a := range actions {
			if a.Type == mgr.ServiceRestart {
				wrong = append(wrong, fmt.Sprintf("Windows restarts it when it fails: sc failure %q reset= 0 actions= \"\"", s.name))
				break
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("read the configuration of service %s: %w", s.name, err)
	}
	return strings.Join(wrong, "; "), err
}

// Close ends the watches.
func (s *windowsService) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := windows.SetEvent(s.stop)
	s.watches.Wait()
	return errors.Join(err, windows.CloseHandle(s.stop))
}
