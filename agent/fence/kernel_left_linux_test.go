package fence

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A right of an instance that the next start does not name ends by its time; the start says so, and how to get rid of
// the rules. They survive changes of the others' rules.
func TestKernelLeftRunsOut(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	until := openFor(t, k, 3*time.Second)
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	o := w.options()
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	k = w.open(o)
	for _, part := range []string{"level=WARN", "instance=main", "port=5432", "witness-agent fence remove"} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("the start said %q, without %q", said.String(), part)
		}
	}
	other := w.service("other")
	other.Port = 6000
	guard(t, k, other)
	untilCut(t, c, until)
	if !w.partner.passes(w.host.at(servicePort)) {
		t.Error("replication is cut")
	}
	guard(t, k, w.service("main"))
	openFor(t, k, 10*time.Second)
	if !w.client.passes(w.host.at(servicePort)) {
		t.Error("an instance that was left cannot be fenced again")
	}
	if err := k.Healthy(); err != nil {
		t.Error(err)
	}
}

// What is open for a longer time than the right that the start knows of is cut with that right.
func TestKernelStartShortens(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	openFor(t, k, time.Minute)
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	until := now().Add(time.Second)
	o.Services = []StartService{{Service: w.service("main"), Right: Right{Until: until}}}
	if err := w.open(o).close(); err != nil { // the kernel alone must end it
		t.Fatal(err)
	}
	untilCut(t, c, until)
}

// Rules that come into force behind a right that lasts cut nobody.
func TestKernelGuardBehindARight(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	until := now().Add(2 * time.Second)
	go func() {
		defer close(done)
		untilCut(t, c, until)
	}()
	if err := k.Guard(w.service("main"), Right{Until: until}); err != nil && !errors.Is(err, ErrTryingOn) {
		t.Fatal(err)
	}
	<-done
}

// A partner that has got an address of this host: the rules that were in force are so and obey, in a running
// agent and after its next start.
func TestKernelPartnerMovesHere(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	moved := w.service("main")
	moved.Partners = []netip.Addr{w.partner.ip4, w.host.ip4}
	obeys := func() {
		t.Helper()
		if err := k.Guard(moved, Right{}); !errors.Is(err, ErrPartnerHere) || errors.Is(err, ErrTryingOn) {
			t.Errorf("%v, want %v", err, ErrPartnerHere)
		}
		openFor(t, k, 10*time.Second)
		if !w.client.passes(w.host.at(servicePort)) {
			t.Error("closed although it was opened")
		}
		shut(t, k, "main")
		if w.client.passes(w.host.at(servicePort)) {
			t.Error("open although it was shut")
		}
		if w.host.passes(w.host.at(servicePort)) {
			t.Error("this host's clients pass as the partner")
		}
	}
	obeys()
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	unknown := w.service("unknown")
	unknown.Port, unknown.Partners = 6000, moved.Partners
	o.Services = []StartService{{Service: moved}, {Service: unknown}}
	k = w.open(o)
	obeys()
	if err := k.Shut("unknown"); err == nil || errors.Is(err, ErrTryingOn) {
		t.Errorf("a service that was never fenced was shut: %v", err)
	}
	if !w.partner.passes(w.host.at(servicePort)) {
		t.Error("the partner's own address does not pass")
	}
}

// Where the addresses of the host cannot be read the partner cannot be told from clients.
func TestKernelAddressesUnreadable(t *testing.T) {
	w := newWorld(t)
	bad := errors.New("no addresses")
	o := w.options()
	o.addresses = func() ([]netip.Addr, error) { return nil, bad }
	if _, err := OpenKernel(t.Context(), o); !errors.Is(err, bad) {
		t.Errorf("start: %v, want %v", err, bad)
	}
	o = w.options()
	var list []netip.Addr
	var failure error
	o.addresses = func() ([]netip.Addr, error) { return slices.Clone(list), failure }
	k := w.open(o)
	failure = bad
	if err := k.Guard(w.service("main"), Right{}); !errors.Is(err, bad) || errors.Is(err, ErrTryingOn) {
		t.Errorf("guard: %v, want %v", err, bad)
	}
}
