package fleet_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// Bad input gets a clear error that says what to do, and nothing is lost or overwritten: real processes, the
// demonstration database.
func TestBadInput(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f, err := fleet.Start(ctx, fleet.Options{Engine: "demo", Pairs: []string{"good"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WaitArmed(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Run("a pair that names one host twice", func(t *testing.T) {
		out, code := ctl(ctx, f, "pair", "create", "twice", "--host", "x", "--host", "x", "--primary", "x")
		if code == 0 || !strings.Contains(out, "two different hosts") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("an agent whose host is in no pair", func(t *testing.T) {
		h := host(t, f, "lonely")
		if !eventually(func() bool { return strings.Contains(h.Logs(50), "in no pair") }) {
			t.Errorf("agent does not say so: %s", h.Logs(50))
		}
		if !strings.Contains(h.Logs(50), "witnessctl pair create") {
			t.Errorf("agent does not say what to do: %s", h.Logs(50))
		}
	})
	t.Run("two agents that claim one host", func(t *testing.T) {
		second, err := f.NewHost("impostor")
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Configure("good-a"); err != nil {
			t.Fatal(err)
		}
		if err := second.Start(); err != nil {
			t.Fatal(err)
		}
		if !eventually(func() bool { return strings.Contains(second.Logs(50), "HOST_CLAIMED") }) {
			t.Errorf("second agent does not say so: %s", second.Logs(50))
		}
		second.Kill()
		if _, err := f.WaitArmed(ctx, 20*time.Second); err != nil {
			t.Errorf("the rightful agent was disturbed: %v", err)
		}
	})
	t.Run("a mirror with a database of its own", func(t *testing.T) {
		for _, name := range []string{"foreign-a", "foreign-b"} {
			h, err := f.NewHost(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Initialize(ctx); err != nil {
				t.Fatal(err)
			}
			if err := h.Start(); err != nil {
				t.Fatal(err)
			}
		}
		out, code := ctl(ctx, f, "pair", "create", "foreign", "--host", "foreign-a=db", "--host", "foreign-b=db",
			"--primary", "foreign-a")
		if code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		explained := func() bool {
			out, _ = ctl(ctx, f, "pair", "explain", "foreign", "-o", "json")
			return strings.Contains(out, "DATA_OF_ANOTHER_DATABASE")
		}
		if !eventually(explained) {
			t.Errorf("explain does not say so: %s", out)
		}
	})
	t.Run("an instance that the agent does not have", func(t *testing.T) {
		host(t, f, "misnamed")
		out, code := ctl(ctx, f, "pair", "create", "misnamed", "--host", "misnamed=other", "--host", "lonely=db",
			"--primary", "lonely")
		if code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		explained := func() bool {
			out, _ = ctl(ctx, f, "pair", "explain", "misnamed")
			return strings.Contains(out, "has no instance named other")
		}
		if !eventually(explained) {
			t.Errorf("explain does not say so: %s", out)
		}
	})
	t.Run("an instance that belongs to another pair", func(t *testing.T) {
		out, code := ctl(ctx, f, "pair", "create", "greedy", "--host", "good-a=db", "--host", "lonely=db",
			"--primary", "good-a")
		if code == 0 {
			t.Errorf("not refused: %s", out)
		}
	})
}

func host(t *testing.T, f *fleet.Fleet, name string) *fleet.Host {
	t.Helper()
	h, err := f.NewHost(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	return h
}

func ctl(ctx context.Context, f *fleet.Fleet, args ...string) (string, int) {
	out, err := f.Ctl(ctx, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, exit.ExitCode()
	}
	if err != nil {
		return out + err.Error(), -1
	}
	return out, 0
}

// eventually polls real processes, which have no virtual time.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
