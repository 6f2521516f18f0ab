package fence

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// leaveEndless is a former start that leaves the port open without end.
func leaveEndless(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	k.Open("main", Right{Endless: true})
	settle(t, k, "main")
	if k.Bounded("main") {
		t.Error("said to have an end")
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	if !w.client.passes(w.host.at(servicePort)) {
		t.Fatal("closed by leaving it")
	}
	return w
}

// What was open without end is so no longer than the right that the new start knows of.
func TestKernelStartEndsWhatHadNoEnd(t *testing.T) {
	for name, c := range map[string]struct {
		right time.Duration // 0: none
		open  bool          // at first
	}{
		"no right":                {0, false},
		"a right that has an end": {time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := leaveEndless(t)
			o := w.options()
			s := StartService{Service: w.service("main")}
			if c.right > 0 {
				s.Right.Until = now().Add(c.right)
			}
			o.Services = []StartService{s}
			k := w.open(o)
			if got := w.client.passes(w.host.at(servicePort)); got != c.open {
				t.Errorf("open after the start: %t, want %t", got, c.open)
			}
			if err := k.close(); err != nil { // and dies at once
				t.Error(err)
			}
			time.Sleep(c.right + 200*time.Millisecond)
			if w.client.passes(w.host.at(servicePort)) {
				t.Error("open after the right's end")
			}
		})
	}
}

func TestKernelStartKeepsASoleRight(t *testing.T) {
	w := leaveEndless(t)
	o := w.options()
	o.Services = []StartService{{Service: w.service("main"), Right: Right{Endless: true}}}
	w.open(o)
	time.Sleep(300 * time.Millisecond)
	if !w.client.passes(w.host.at(servicePort)) {
		t.Error("closed")
	}
}

// A start that was not told of an instance opens nothing of it, and leaves nothing of it open for ever.
func TestKernelStartWithoutAnInstance(t *testing.T) {
	w := leaveEndless(t)
	w.open(w.options())
	if w.client.passes(w.host.at(servicePort)) {
		t.Error("an endless opening was kept")
	}
}

// A right without end that gets one: the kernel is asked to confirm it before a pair is armed.
func TestKernelOpenNowBoundsTheRight(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	k.Open("main", Right{Endless: true})
	settle(t, k, "main")
	until := now().Add(time.Second)
	if err := k.OpenNow("main", Right{Until: until}); err != nil || !k.Bounded("main") {
		t.Errorf("bounded: %t, %v", k.Bounded("main"), err)
	}
	if err := k.close(); err != nil { // dies
		t.Error(err)
	}
	if !w.client.passes(w.host.at(servicePort)) {
		t.Error("closed before the end")
	}
	time.Sleep(until.Sub(now()) + 200*time.Millisecond)
	if w.client.passes(w.host.at(servicePort)) {
		t.Error("open after the end")
	}
}

// What the new primary's host forwards, a container for one, must not come in by the way of replication either.
func TestKernelForwardedByThePartner(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	guard(t, w.open(w.options()), w.service("main"))
	container := w.behindPartner()
	if !container.passes(w.host.at(servicePort)) {
		t.Fatal("the test's container does not reach the host by the partner's address")
	}
	o := w.options()
	o.netns = int(w.partner.file.Fd())
	o.addresses = nil
	s := w.service("main")
	s.Partners, s.PartnerPort, s.Port = []netip.Addr{w.host.ip4, w.host.ip6}, servicePort, partnerPort
	k, err := OpenKernel(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.close() })
	guard(t, k, s)
	k.Open("main", Right{Until: now().Add(time.Minute)})
	settle(t, k, "main")
	if container.passes(w.host.at(servicePort)) {
		t.Error("a container on the new primary's host reaches the old primary")
	}
}

// behindPartner is a network whose packets the partner's host forwards under its own address.
func (w *world) behindPartner() *space {
	w.t.Helper()
	c := newSpace(w.t, w.partner.name+"x", 9)
	partner := w.partner.name
	run(w.t, "ip", "link", "add", "cont", "netns", partner, "type", "veth", "peer", "name", "eth0", "netns", c.name)
	run(w.t, "ip", "-n", partner, "addr", "add", "172.30.0.1/24", "dev", "cont")
	run(w.t, "ip", "-n", partner, "link", "set", "cont", "up")
	run(w.t, "ip", "-n", c.name, "addr", "add", "172.30.0.2/24", "dev", "eth0")
	run(w.t, "ip", "-n", c.name, "link", "set", "eth0", "up")
	run(w.t, "ip", "-n", c.name, "route", "add", "default", "via", "172.30.0.1")
	run(w.t, "ip", "netns", "exec", partner, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	conn, err := nftables.New(nftables.WithNetNSFd(int(w.partner.file.Fd())))
	if err != nil {
		w.t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "test_nat", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "post", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Masq{}}})
	if err := conn.Flush(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
