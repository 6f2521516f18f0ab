package service

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// asService makes the test's own program the service that stands for SQL Server.
const asService = "serve-as-service"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asService {
		if err := svc.Run("", standIn{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// standIn does nothing until it is told to stop.
type standIn struct{}

func (standIn) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	running := svc.Status{State: svc.Running, Accepts: svc.AcceptStop}
	changes <- running
	for r := range requests {
		switch r.Cmd {
		case svc.Interrogate:
			changes <- running
		case svc.Stop:
			changes <- svc.Status{State: svc.StopPending}
			return false, 0
		}
	}
	return false, 0
}

func TestWindowsService(t *testing.T) {
	manager, err := mgr.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Disconnect()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("witness-test-%d", time.Now().UnixNano())
	made, err := manager.CreateService(name, self, mgr.Config{StartType: mgr.StartAutomatic}, asService)
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	defer func() {
		if err := made.Delete(); err != nil {
			t.Error(err)
		}
	}()
	s, err := Open(Config{WindowsService: name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := func() Process {
		t.Helper()
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		p, err := s.Look(ctx)
		if err != nil || !p.Running {
			t.Fatalf("started, and seen as %+v, %v", p, err)
		}
		return p
	}
	quiet := func(what string) {
		t.Helper()
		if p, err := s.Look(ctx); err != nil || p.Running {
			t.Errorf("after %s: %+v, %v", what, p, err)
		}
		select {
		case exit := <-s.Exits():
			t.Errorf("%s is told: %+v", what, exit)
		case <-time.After(200 * time.Millisecond):
		}
	}

	first := start()
	began := time.Now()
	if err := s.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed in %v", time.Since(began))
	quiet("a kill")
	if start().Run == first.Run {
		t.Error("another start is the same run")
	}
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	quiet("a stop")

	third := start()
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(third.PID))
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.TerminateProcess(h, 7); err != nil {
		t.Fatal(err)
	}
	select {
	case exit := <-s.Exits():
		if exit.Run != third.Run || !strings.Contains(exit.Reason, "code 7") {
			t.Errorf("told of %+v", exit)
		}
	case <-time.After(20 * time.Second):
		t.Error("an end that nobody asked for is not told")
	}
	if err := windows.CloseHandle(h); err != nil {
		t.Error(err)
	}
	gate, err := s.RestartGate(ctx)
	t.Logf("restart gate: %q, %v", gate, err)
	if err == nil && !strings.Contains(gate, "at boot") {
		t.Error("a start at boot is not said")
	}
}
