package fence

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/hold"
)

// Who passes a port that is closed, open, open for readers, and let go.
func TestKernelWhoPasses(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	local := netip.MustParseAddr("127.0.0.1")
	everybody := map[string]struct {
		from *space
		to   netip.Addr
	}{
		"client, IPv4": {w.client, w.host.ip4}, "client, IPv6": {w.client, w.host.ip6},
		"inside, lo": {w.host, local}, "inside, lo, IPv6": {w.host, netip.IPv6Loopback()},
		"inside, own address": {w.host, w.host.ip4}, "inside, own address, IPv6": {w.host, w.host.ip6},
	}
	see := func(when string, clients bool) {
		t.Helper()
		for name, p := range everybody {
			before := time.Now()
			if got := p.from.passes(netip.AddrPortFrom(p.to, servicePort)); got != clients {
				t.Errorf("%s: %s: passes %t, want %t", when, name, got, clients)
			}
			if d := time.Since(before); d > 500*time.Millisecond {
				t.Errorf("%s: %s: took %v to be told", when, name, d)
			}
		}
		for _, to := range []netip.Addr{w.host.ip4, w.host.ip6} {
			if !w.partner.passes(netip.AddrPortFrom(to, servicePort)) {
				t.Errorf("%s: the partner's replication does not pass to %v", when, to)
			}
		}
	}
	see("before", true)
	guard(t, k, w.service("main"))
	see("guarded", false)
	open := func(r Right) {
		t.Helper()
		k.Open("main", r)
		eventually(t, 5*time.Second, "open", func() bool { return w.client.passes(w.host.at(servicePort)) })
	}
	open(Right{Until: now().Add(30 * time.Second)})
	see("open", true)
	shut(t, k, "main")
	see("shut", false)
	open(Right{Endless: true})
	see("open without end", true)
	shut(t, k, "main")
	see("shut again", false)
	k.OpenForReads("main", now().Add(30*time.Second))
	eventually(t, 5*time.Second, "open", func() bool { return w.client.passes(w.host.at(servicePort)) })
	see("open for reads", true)
	shut(t, k, "main")
	see("shut for reads", false)
	if err := k.LetGo("main"); err != nil {
		t.Fatal(err)
	}
	see("let go", true)
	if err := k.Healthy(); err != nil {
		t.Error(err)
	}
}

// shut closes, however busy this machine is.
func shut(t *testing.T, k *Kernel, name string) {
	t.Helper()
	if err := k.Shut(name); err != nil {
		t.Logf("slow: %v", err)
		settle(t, k, name)
	}
}

// guard puts rules in force, however busy this machine is.
func guard(t testing.TB, k *Kernel, s Service) {
	t.Helper()
	var err error
	for range 20 {
		if err = k.Guard(s, Right{}); err == nil {
			return
		}
		t.Logf("slow: %v", err)
	}
	t.Fatal(err)
}

// slack is what a cut may be late by: the kernel's ticks, and this machine being busy.
const slack = 50 * time.Millisecond

// openFor opens main and returns when the kernel has done so, with the end of the right.
func openFor(t testing.TB, k *Kernel, d time.Duration) hold.Instant {
	t.Helper()
	until := now().Add(d)
	k.Open("main", Right{Until: until})
	settle(t, k, "main")
	return until
}

// settle waits until the kernel has been told all that was wanted.
func settle(t testing.TB, k *Kernel, name string) {
	t.Helper()
	k.mu.Lock()
	w := k.wishes[name]
	number := w.number
	k.mu.Unlock()
	if err := k.await(10*time.Second, "not told", func() bool { return w.done >= number }); err != nil {
		t.Fatal(err)
	}
}

func sleepUntil(at hold.Instant) { time.Sleep(at.Sub(now())) }

// At the end of a right the kernel cuts what is open by itself, to the tick: the agent is gone as soon as it
// has opened.
func TestKernelCutsByItself(t *testing.T) {
	for name, local := range map[string]bool{"from another host": false, "on lo": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			srv := w.host.serve(servicePort)
			k := w.open(w.options())
			guard(t, k, w.service("main"))
			from, to := w.client, w.host.at(servicePort)
			if local {
				from, to = w.host, netip.MustParseAddrPort("127.0.0.1:5432")
			}
			openFor(t, k, 10*time.Second)
			var conns []*net.TCPConn
			for range 4 {
				c, err := from.dial(to)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := talk(c); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			busy, sender, waiter, listener := conns[0], conns[1], conns[2], conns[3]
			at := srv.accepted(t, waiter)
			until := openFor(t, k, time.Second)
			if err := k.close(); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() { untilCut(t, busy, until) })
			all.Go(func() { stream(t, srv.accepted(t, listener), listener, until) })
			sleepUntil(until.Add(slack))
			if err := talk(sender); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("idle, then sends: %v, want a reset", err)
			}
			lateAnswer(t, at, waiter)
			all.Wait()
		})
	}
}

// untilCut talks until it cannot, which must be when the right ends.
func untilCut(t *testing.T, c net.Conn, until hold.Instant) {
	if d := lastWord(t, c, until); d < -slack {
		t.Errorf("cut %v before the end", -d)
	}
}

// lastWord talks until it cannot, which must not be later than when the right ends, and returns how late it saw that.
func lastWord(t *testing.T, c net.Conn, until hold.Instant) time.Duration {
	for {
		sent := now()
		err := talk(c)
		if err != nil {
			t.Logf("talking: last word sent %v after the end, cut seen %v after it", sent.Sub(until), now().Sub(until))
			return now().Sub(until)
		}
		if late := sent.Sub(until); late > slack {
			t.Errorf("a word sent %v after the end was answered", late)
			return late
		}
	}
}

// stream has the server send the time all the time, to a client that only reads.
func stream(t *testing.T, srv, c net.Conn, until hold.Instant) {
	go func() {
		for {
			if _, err := srv.Write(binary.NativeEndian.AppendUint64(nil, uint64(now()))); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	var last hold.Instant
	for {
		var b [8]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Logf("reading: last word sent %v after the end, reset after %v", last.Sub(until), now().Sub(until))
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a client that only reads: %v, want a reset", err)
			}
			break
		}
		last = hold.Instant(binary.NativeEndian.Uint64(b[:]))
	}
	if last.Sub(until) > slack {
		t.Errorf("a word sent %v after the end was received", last.Sub(until))
	}
}

// lateAnswer has the server answer after the end: the client is told that the connection is over and sees
// nothing of the answer; then the server is told too.
func lateAnswer(t *testing.T, srv, c net.Conn) {
	t.Helper()
	_ = srv.SetWriteDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = srv.Write(make([]byte, 100_000)) }() // more than the network takes at a time
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	n, err := c.Read(make([]byte, 100))
	if n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client of a late answer got %d bytes, %v; want a reset", n, err)
	}
	eventually(t, 3*time.Second, "the server is told that its client is gone", func() bool {
		_, err := srv.Write([]byte("more"))
		return err != nil
	})
}

// Renewals and closings under traffic: nothing is cut that has a right, and everything once it has none.
func TestKernelUnderTraffic(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	openFor(t, k, 10*time.Second)
	var all sync.WaitGroup
	var words, lastSent atomic.Int64
	var shutting atomic.Bool
	for range 6 {
		c, err := w.client.dial(w.host.at(servicePort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all.Go(func() {
			for {
				sent := now()
				if err := talk(c); err != nil {
					if !shutting.Load() {
						t.Errorf("cut in spite of its right: %v", err)
					}
					return
				}
				words.Add(1)
				for last := lastSent.Load(); int64(sent) > last && !lastSent.CompareAndSwap(last, int64(sent)); {
					last = lastSent.Load()
				}
			}
		})
	}
	renewals := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); renewals++ {
		openFor(t, k, 3*time.Second)
		time.Sleep(time.Millisecond)
	}
	shutting.Store(true)
	begun := now()
	shut(t, k, "main")
	closed := now()
	all.Wait()
	if d := hold.Instant(lastSent.Load()).Sub(closed); d > 0 {
		t.Errorf("a word sent %v after the closing was answered", d)
	}
	t.Logf("%d words, %d renewals, %+v; shut within %v", words.Load(), renewals, k.Stats(), closed.Sub(begun))
}

// Clients on this host must not use the way that replication has to the partner's database once this host serves.
func TestKernelClientsOnTheHost(t *testing.T) {
	w := newWorld(t)
	srv := w.partner.serve(partnerPort)
	k := w.open(w.options())
	guard(t, k, w.service("main"))
	as := func(uid uintptr, to netip.Addr) bool {
		var c net.Conn
		err := w.host.in(func() (err error) {
			if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); no != 0 {
				return no
			}
			c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, partnerPort).String(), time.Second)
			return err
		})
		if err != nil {
			return false
		}
		defer c.Close()
		return talk(c) == nil
	}
	see := func(when string, others bool) {
		t.Helper()
		for _, to := range []netip.Addr{w.partner.ip4, w.partner.ip6} {
			if !as(databaseUser, to) {
				t.Errorf("%s: the database does not reach its partner at %v", when, to)
			}
			if got := as(1234, to); got != others {
				t.Errorf("%s: a client reaches the partner at %v: %t, want %t", when, to, got, others)
			}
		}
	}
	see("closed", true)
	waiter, err := w.host.dial(w.partner.at(partnerPort))
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	openFor(t, k, 10*time.Second)
	see("open", false)
	_, _ = srv.accepted(t, waiter).Write([]byte("committed"))
	_ = waiter.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, _ := waiter.Read(make([]byte, 100)); n > 0 {
		t.Error("a client on this host got an answer from the partner's database after this host was opened")
	}
	if err := talk(waiter); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a client on this host goes on with the partner's database: %v, want a reset", err)
	}
	k.OpenForReads("main", now().Add(10*time.Second))
	settle(t, k, "main")
	see("open for reads", true)
	k.Open("main", Right{Endless: true})
	settle(t, k, "main")
	see("open without end", false)
	shut(t, k, "main")
	see("shut", true)
}

// What is changed in the service takes effect at once, and nothing of it cuts who has a right.
func TestKernelGuardsAnew(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	k := w.open(w.options())
	s := w.service("main")
	s.Partners, s.PartnerPort = nil, 0
	guard(t, k, s)
	if w.partner.passes(w.host.at(servicePort)) {
		t.Error("a partner that is not known passes")
	}
	openFor(t, k, 10*time.Second)
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s = w.service("main")
	s.Addresses = []netip.Addr{w.host.ip4}
	guard(t, k, s)
	guard(t, k, s)
	if err := talk(c); err != nil {
		t.Errorf("cut by new rules: %v", err)
	}
	other := w.service("other")
	other.Port = 6000
	guard(t, k, other)
	if err := talk(c); err != nil {
		t.Errorf("cut by the rules of another: %v", err)
	}
	shut(t, k, "main")
	if !w.partner.passes(w.host.at(servicePort)) {
		t.Error("the partner does not pass once it is known")
	}
	if w.client.passes(w.host.at(servicePort)) || !w.client.passes(netip.AddrPortFrom(w.host.ip6, servicePort)) {
		t.Error("with an address of its own the service is fenced there and only there")
	}
}

func TestKernelCannotFence(t *testing.T) {
	w := newWorld(t)
	k := w.open(w.options())
	s := w.service("main")
	for name, p := range map[string]netip.Addr{
		"own": w.host.ip4, "own, IPv6": w.host.ip6, "loopback": netip.MustParseAddr("127.0.0.2"),
		"own, mapped": netip.AddrFrom16(w.host.ip4.As16()),
	} {
		s.Partners = []netip.Addr{p}
		if err := k.Guard(s, Right{}); !errors.Is(err, ErrPartnerHere) {
			t.Errorf("%s: %v, want %v", name, err, ErrPartnerHere)
		}
	}
	if err := k.Shut("main"); err == nil {
		t.Error("an instance without rules was shut")
	}
	k.Open("main", Right{Endless: true})
	if err := k.LetGo("main"); err != nil {
		t.Error(err)
	}
	for _, s := range []Service{{Port: 1}, {Name: "x"}, {Name: strings.Repeat("x", 300), Port: 1}} {
		if err := k.Guard(s, Right{}); err == nil {
			t.Errorf("%+v was guarded", s)
		}
	}
}

// Somebody restarts the firewall, which flushes all rules.
func TestKernelFlushedByOthers(t *testing.T) {
	for name, act := range map[string]func(c *nftables.Conn){
		"ruleset": func(c *nftables.Conn) { c.FlushRuleset() },
		"table": func(c *nftables.Conn) {
			c.FlushTable(&nftables.Table{Name: table, Family: nftables.TableFamilyINet})
		},
		"sleep": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.host.serve(servicePort)
			o := w.options()
			told := make(chan error, 10)
			o.OnLost = func(err error) { told <- err }
			k := w.open(o)
			other := w.service("closed")
			other.Port = 6000
			w.host.serve(other.Port)
			for _, s := range []Service{w.service("main"), other} {
				guard(t, k, s)
			}
			until := openFor(t, k, 3*time.Second)
			c, err := w.client.dial(w.host.at(servicePort))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			before := time.Now()
			if act != nil {
				w.others(act)
			} else {
				run(t, "ip", "netns", "exec", w.host.name, "nft", "add table inet "+table+" { flags dormant ; }")
			}
			eventually(t, 3*time.Second, "closed again", func() bool { return !w.client.passes(w.host.at(other.Port)) })
			t.Logf("closed again after %v", time.Since(before))
			select {
			case err := <-told:
				if !errors.Is(err, errLost) {
					t.Error(err)
				}
			case <-time.After(3 * time.Second):
				t.Error("OnLost was not called")
			}
			untilCut(t, c, until)
			if n := k.Stats().Rebuilt; n != 1 {
				t.Errorf("rebuilt %d times, want once", n)
			}
			if err := k.Healthy(); err != nil {
				t.Error(err)
			}
		})
	}
}

// others does something with the ruleset of the fenced host.
func (w *world) others(act func(c *nftables.Conn)) {
	w.t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(w.host.file.Fd())))
	if err != nil {
		w.t.Fatal(err)
	}
	act(c)
	if err := c.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// A table that another release has left is replaced: without a moment in which a right is cut, and without one
// in which a closed port is open.
func TestKernelReplacesAnotherLayout(t *testing.T) {
	const foreign = "table inet " + table + ` {
		set old { type inet_service; elements = { 6000 } }
		chain input { type filter hook input priority -10; policy accept; tcp dport @old reject with tcp reset; }
	}`
	w := newWorld(t)
	w.host.serve(servicePort)
	closed := w.service("closed")
	closed.Port = 6000
	w.host.serve(closed.Port)
	run(t, "ip", "netns", "exec", w.host.name, "nft", foreign)
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if w.client.passes(w.host.at(closed.Port)) {
					t.Error("the closed port was open for a moment")
				}
			}
		}
	})
	o := w.options()
	until := now().Add(3 * time.Second)
	o.Services = []StartService{{Service: w.service("main"), Right: Right{Until: until}}, {Service: closed}}
	w.open(o)
	untilCut(t, c, until)
	close(done)
	all.Wait()
}

// A start takes over what the former one has left: the elements as they are, whatever it believes itself, and
// instances that are not there any more are let go.
func TestKernelTakesOver(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	gone := w.service("gone")
	gone.Port = 6000
	w.host.serve(gone.Port)
	k := w.open(w.options())
	for _, s := range []Service{w.service("main"), gone} {
		guard(t, k, s)
	}
	until := openFor(t, k, 3*time.Second)
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	if w.client.passes(w.host.at(gone.Port)) {
		t.Error("Close has opened a port")
	}
	o := w.options()
	o.Services = []StartService{{Service: w.service("main")}}
	k = w.open(o)
	if err := talk(c); err != nil {
		t.Errorf("cut by a new start: %v", err)
	}
	if w.client.passes(w.host.at(gone.Port)) {
		t.Error("an instance that the new start was not told of was opened")
	}
	if err := k.LetGo(gone.Name); err != nil || !w.client.passes(w.host.at(gone.Port)) {
		t.Errorf("an instance that the new start was not told of cannot be let go: %v", err)
	}
	untilCut(t, c, until)
	if err := k.Healthy(); err != nil {
		t.Error(err)
	}
}

// The kernel is slow, or its answers are lost: nothing opens late, and the next attempt works.
func TestKernelSlow(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	o := w.options()
	var armed atomic.Bool
	o.at = func(step string) {
		if step == "ready" && armed.CompareAndSwap(true, false) {
			time.Sleep(tokenLife * 3 / 2)
		}
	}
	k := w.open(o)
	guard(t, k, w.service("main"))
	armed.Store(true)
	openFor(t, k, 10*time.Second)
	if k.Stats().Late == 0 {
		t.Error("a late renewal was not counted")
	}
	if !w.client.passes(w.host.at(servicePort)) {
		t.Error("the second attempt did not open")
	}
	armed.Store(true)
	k.Open("main", Right{Until: now().Add(tokenLife)})
	eventually(t, time.Second, "tried", func() bool { return !armed.Load() })
	time.Sleep(2 * tokenLife)
	if w.client.passes(w.host.at(servicePort)) {
		t.Error("open for a right that is over")
	}
}

func TestKernelAnswersLost(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	o := w.options()
	var rules *netRules
	o.dial = func(o KernelOptions) (ruleset, error) {
		r, err := openRuleset(o)
		rules = r.(*netRules)
		return r, err
	}
	k := w.open(o)
	guard(t, k, w.service("main"))
	openFor(t, k, 10*time.Second)
	fill := func() { // the goroutine sleeps: nothing was ordered
		if err := rules.open(); err != nil {
			t.Fatal(err)
		}
		if err := rules.socket.SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	first := rules.socket
	shut(t, k, "main")
	if w.client.passes(w.host.at(servicePort)) {
		t.Error("open although it was shut")
	}
	if rules.socket == first {
		t.Error("no answer was lost: the test tests nothing")
	}
	fill()
	openFor(t, k, 10*time.Second)
	if !w.client.passes(w.host.at(servicePort)) {
		t.Error("closed although it was opened")
	}
}

func TestKernelShowAndRemove(t *testing.T) {
	w := newWorld(t)
	w.host.serve(servicePort)
	o := w.options()
	rules := func() *netRules { return newNetRules(table, o.netns) }
	if _, err := rules().show(); err == nil {
		t.Error("shows what is not there")
	}
	if err := rules().remove(); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
	run(t, "ip", "netns", "exec", w.host.name, "nft", "add table inet "+table+" { chain of_others { } ; }")
	if err := rules().remove(); err == nil {
		t.Error("removed the table of others")
	}
	k := w.open(o)
	for i, name := range []string{"closed", "endless", "main", "reads", "un_usual name"} {
		s := w.service(name)
		s.Port = uint16(6000 + i)
		guard(t, k, s)
	}
	k.Open("endless", Right{Endless: true})
	k.Open("main", Right{Until: now().Add(10 * time.Second)})
	k.OpenForReads("reads", now().Add(10*time.Second))
	for _, name := range []string{"endless", "main", "reads"} {
		settle(t, k, name)
	}
	got, err := rules().show()
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if d := got[i].Left; d > 9*time.Second && d <= 10*time.Second {
			got[i].Left = 10 * time.Second
		}
	}
	want := []Shown{
		{Instance: "closed", Port: 6000},
		{Instance: "endless", Port: 6001, Open: true, Endless: true},
		{Instance: "main", Port: 6002, Open: true, Left: 10 * time.Second},
		{Instance: "reads", Port: 6003, Open: true, Readers: true, Left: 10 * time.Second},
		{Instance: "un_usual name", Port: 6004},
	}
	if !slices.Equal(got, want) {
		t.Errorf("shown\n%+v, want\n%+v", got, want)
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	if err := rules().remove(); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ip", "netns", "exec", w.host.name, "nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("left after removal:\n%s", out)
	}
}

func TestTryKernel(t *testing.T) {
	w := newWorld(t)
	err := w.host.in(func() error { return TryKernel(t.Context(), table) })
	if err != nil {
		t.Error(err)
	}
	if out := run(t, "ip", "netns", "exec", w.host.name, "nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("left after the trial:\n%s", out)
	}
	err = w.host.in(func() error {
		none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if err := unix.Capset(&none, &sets[0]); err != nil {
			return err
		}
		return TryKernel(t.Context(), table)
	})
	if !errors.Is(err, ErrNotPermitted) {
		t.Errorf("without capabilities: %v, want %v", err, ErrNotPermitted)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.host.in(func() error { return TryKernel(ctx, table) }); err == nil {
		t.Error("a trial that was called off has worked")
	}
}
