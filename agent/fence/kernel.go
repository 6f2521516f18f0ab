package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// AgentMark is the mark (SO_MARK) of the agent's own connections to databases of its host, which pass when nobody else
// does.
const AgentMark = 0x77_69_74_6e

// LevelKernel closes the database's port in the kernel's packet filter.
//
// What passes is an element of a set with a time-out, so the port closes, open connections included, whatever
// becomes of the agent. What it cannot do:
//
//   - Unix sockets are no packets: a client that connects over one is not fenced.
//   - A database in a network namespace of its own (a container) is not seen.
//   - The kernel's time-outs stand still while the host sleeps, the clock of a right does not: after a resume
//     the agent closes within 100 ms, and nothing is claimed for that gap.
//   - Whoever changes the ruleset keeps others waiting in the kernel. A change that takes longer than a lease (some
//     hundred thousand elements) lets the right run out.
//   - Where the partner has an address of this same host, it cannot be told from clients: see [Kernel.Guard].
const LevelKernel Level = "kernel"

// Service is what one instance's rules are made of.
type Service struct {
	Name        string       // the instance
	Addresses   []netip.Addr // where the database listens; none: every address of the host
	Port        uint16
	Partners    []netip.Addr // addresses of the partner's host, which replication comes from
	PartnerPort uint16       // where the partner's database listens; 0: not known
	User        uint32       // the uid that the database runs as
}

// Right says until when clients may be let in. The zero Right is none.
type Right struct {
	Until   hold.Instant
	Endless bool
}

// StartService is an instance that is fenced from the start on, with what is known of its right. An instance whose
// rules are in the table already keeps what the former start left: a closed one stays closed, and what is open
// for a time runs to its end, but if Right has an end, not beyond that. What is open without end stays so only if
// Right is endless too; else Right takes its place. An instance without rules gets Right.
type StartService struct {
	Service Service
	Right   Right
}

// KernelOptions is what a Kernel needs. Table and Clock must be set.
type KernelOptions struct {
	Table  string // of the family inet, for this agent alone
	Clock  Clock
	Logger *slog.Logger
	// Services are the instances to fence. What the table has of others stays: whoever cannot say what an
	// instance is must not open its port. It is closed, or will be when its time is over; LetGo takes it away.
	Services []StartService
	// OnLost is told each time that the rules were found gone or changed (somebody flushed the ruleset), after
	// they were put back or with the error that this gave. It is called from the fence's goroutine and must not
	// block.
	OnLost func(err error)

	seams
}

// seams are what tests replace.
type seams struct {
	netns     int                                  // a file of the network namespace to work in; 0: this one
	at        func(step string)                    // is called between the steps of a renewal
	addresses func() ([]netip.Addr, error)         // of this host
	dial      func(KernelOptions) (ruleset, error) // opens the kernel's rules
}

// ruleset is the kernel's packet filter. Only the fence's goroutine uses it; each call may block as long as others
// hold the kernel's mutex.
type ruleset interface {
	// shut closes the services now.
	shut(services []Service) error
	// renew puts a token into the kernel that runs out by itself, asks for the states, and makes them true in a
	// transaction that fails if the token is gone.
	renew(states func() []state) error
	// left lists whose rules are in the table, open or not. A table that is not there has none.
	left() ([]Shown, error)
	// arrange makes the rules those of the plan, in one transaction. Sets that are there keep their elements, but
	// for what [state.replaces] says; new ones get what the plan says, guarded by a token as in renew. Rules of
	// instances that the plan does not name stay, but what they have open without end is closed.
	arrange(plan func() plan) error
	// intact fails with errLost if the rules are not those that arrange made.
	intact() error
	// changes is woken when somebody has changed the rules, the fence itself included.
	changes() <-chan struct{}
	close() error
}

// state is what the kernel is to be told of a service. With neither endless nor a time left it is closed.
type state struct {
	service Service
	left    time.Duration
	endless bool
	readers bool // only a mirror's readers are let in
	// fresh is a service that this process has not arranged yet: what the kernel has open for it was left by
	// another, and timed says that the right known here has an end.
	fresh, timed bool
}

// plan is what arrange makes true.
type plan struct {
	states []state
	letGo  []string // instances whose rules go away
}

// Errors of the kernel fence, and what to do.
var (
	ErrNotPermitted = errors.New("the kernel refuses it: the agent needs the capability CAP_NET_ADMIN (run it as root, " +
		"or add AmbientCapabilities=CAP_NET_ADMIN to its unit)")
	ErrNoTables = errors.New("this kernel has no nf_tables: load the module nf_tables (modprobe nf_tables), or use " +
		"another fence")
	ErrNoExpression = errors.New("this kernel's nf_tables lacks something that the fence needs: load the modules " +
		"nft_reject_inet and nf_tables_inet, or use a newer kernel")
	ErrDoesNotCut  = errors.New("the kernel takes the rules but they do not cut; use another fence and report this")
	ErrPartnerHere = errors.New("the partner has an address of this same host: the kernel cannot tell it from clients")
	// ErrTryingOn marks what the kernel has not done yet: the fence knows of it, and goes on until it is done or
	// something else is wanted.
	ErrTryingOn = errors.New("not done by the kernel yet, trying on")
	errTokenOut = errors.New("the kernel was too slow: the token ran out, so nothing was opened")
	errLost     = errors.New("the rules are not there as they were made; somebody changed the ruleset")
)

const (
	// tokenLife bounds how late an opening may take effect after its clock was read, whatever stops the process
	// or delays the kernel. An element may outlive its right by as much, so it must fit into hold.FenceTime
	// with room for the kernel's own work.
	tokenLife = 100 * time.Millisecond
	// shortestOpening is what is not worth opening for. The kernel rounds a time-out down to its ticks (10 ms
	// at most), and takes one of no ticks for one without end.
	shortestOpening = 20 * time.Millisecond
	// shutPatience and guardPatience bound how long a caller waits for the kernel.
	shutPatience  = 50 * time.Millisecond
	guardPatience = 500 * time.Millisecond
	// retryAfter is short: an open port that should be closed is what this package exists to prevent.
	retryAfter = 10 * time.Millisecond
	// startTries bounds how often a start is tried on a host that is slow just then.
	startTries = 10
	// checkEvery is how long a change of the rules by others may go unseen if its notice is lost.
	checkEvery = time.Second
)

// wish is what the agent wants of one service, and how far the kernel has been told.
type wish struct {
	service Service
	right   Right
	readers bool
	number  uint64 // of the latest Open, OpenForReads or Shut
	done    uint64 // the latest number that the kernel knows
	owed    bool   // the kernel may still have an element that no right stands behind
	endless bool   // the kernel may have an element without end
	fresh   bool   // not arranged yet
}

func (w *wish) live(now hold.Instant) bool { return w.right.Endless || w.right.Until > now }

// state reads the wish at an instant. A right that is almost over is none: see shortestOpening.
func (w *wish) state(now hold.Instant) state {
	s := state{
		service: w.service, readers: w.readers, endless: w.right.Endless, fresh: w.fresh,
		timed: !w.right.Endless && w.right.Until != 0,
	}
	if left := w.right.Until.Sub(now); !s.endless && w.right.Until > now && left >= shortestOpening {
		s.left = left
	}
	return s
}

// KernelStats counts what an administrator may wonder about.
type KernelStats struct {
	Rebuilt      int           // how often the rules were found changed by others
	Late         int           // how often a renewal took longer than its token, or failed, and was done again
	LastDelay    time.Duration // of the latest renewal, from reading the clock to the kernel's answer
	LongestDelay time.Duration
}

// Kernel keeps the rules of all fenced instances of this host, in one table. Its methods may be called from anywhere.
//
// One goroutine talks to the kernel. It does what is wanted at the moment it looks, so renewals coalesce, and
// an Open from before a Shut is never applied after it.
type Kernel struct {
	ctx   context.Context // for logging; the fence ends by Close alone
	o     KernelOptions
	rules ruleset

	mu       sync.Mutex
	wishes   map[string]*wish
	going    map[string]uint64 // instances to be let go, and the shape from which on they are
	shape    uint64            // counts changes of the services
	arranged uint64            // the shape that is in force
	err      error             // of the latest turn
	failing  hold.Instant      // since when there is one
	busy     hold.Instant      // since when the turn under way lasts; 0: none
	stats    KernelStats
	turned   chan struct{} // closed at the end of a turn

	wake  chan struct{}
	done  chan struct{}
	ended sync.WaitGroup

	checked hold.Instant // the goroutine's own
	suspect bool         // the goroutine's own: look at the rules in the next turn
	told    bool         // the goroutine's own: it was logged that a failure lasts
}

// Shown is what the kernel itself says of one instance.
type Shown struct {
	Instance string
	Port     uint16
	Open     bool          // clients pass
	Readers  bool          // they pass as a mirror's readers
	Endless  bool          // until it is shut
	Left     time.Duration // else, how long they still pass
}

// plain is the service with addresses as they are on the wire and in a settled order.
func plain(s Service) Service {
	s.Addresses, s.Partners = plainAddresses(s.Addresses), plainAddresses(s.Partners)
	return s
}

func plainAddresses(list []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, a.Unmap().WithZone(""))
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func same(a, b Service) bool {
	return a.Port == b.Port && a.PartnerPort == b.PartnerPort && a.User == b.User &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Partners, b.Partners)
}

// Guard puts the instance's rules in force: from its return on the port is closed to clients but for what Open lets
// in. An instance that has no rules yet is opened for r with them, in one step, so that rules behind a right that lasts
// cut nobody; what an earlier start left of it counts as in [StartService]. For any other r is ignored, and what is
// open stays open. If the service has changed, its rules are replaced; if it has not, nothing happens.
//
// After [ErrTryingOn] it goes on trying. After any other error, [ErrPartnerHere] for one, nothing was changed: rules
// that were in force are so, and obey Open, Shut and LetGo as before.
func (k *Kernel) Guard(s Service, r Right) error {
	own, err := k.o.addresses()
	if err != nil {
		return fmt.Errorf("instance %s: read the addresses of this host: %w", s.Name, err)
	}
	s = plain(s)
	if err := check(s, own); err != nil {
		return fmt.Errorf("instance %s: %w", s.Name, err)
	}
	k.mu.Lock()
	w := k.wishes[s.Name]
	switch {
	case w == nil:
		_, going := k.going[s.Name] // it may not be gone yet, with what is open of it
		k.wishes[s.Name] = &wish{service: s, right: r, owed: r != Right{} || going, endless: r.Endless || going, fresh: true}
		delete(k.going, s.Name)
		k.shape++
	case !same(w.service, s):
		w.service = s
		k.shape++
	}
	shape := k.shape
	k.mu.Unlock()
	err = k.await(guardPatience, "its rules are not in force", func() bool { return k.arranged >= shape })
	if err != nil {
		return fmt.Errorf("instance %s: %w", s.Name, err)
	}
	return nil
}

// Open lets clients in until the right ends, from whoever they come. It does not block; it takes effect at most
// 100 ms after the clock was read for it, or not at all. It is ignored for an instance without rules.
func (k *Kernel) Open(name string, r Right) { _, _ = k.order(name, r, false) }

// OpenForReads lets the readers of a mirror in until the instant, in place of what Open allowed. It does not block.
func (k *Kernel) OpenForReads(name string, until hold.Instant) {
	_, _ = k.order(name, Right{Until: until}, true)
}

// OpenNow is Open, but returns when the kernel has done so, or something that was ordered later, or with an error
// after 50 ms; then it goes on trying ([ErrTryingOn]). An instance without rules is an error.
func (k *Kernel) OpenNow(name string, r Right) error {
	number, ok := k.order(name, r, false)
	if !ok {
		return fmt.Errorf("instance %s has no rules in the kernel's fence; nothing was opened or bounded", name)
	}
	return k.obeyed(name, number, "its port is not opened as told")
}

// Bounded is whether the kernel surely lets nobody in without end: whatever becomes of this process, the instance's
// port closes by itself. It is so too for an instance without rules. From an order without end on it is not,
// until the kernel has confirmed one with an end, or a Shut, that came later.
func (k *Kernel) Bounded(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.wishes[name]
	return w == nil || !w.endless
}

// order notes what is wanted and returns its number. It is not ok for an instance without rules.
func (k *Kernel) order(name string, r Right, readers bool) (number uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.wishes[name]
	if w == nil {
		return 0, false
	}
	w.right, w.readers, w.owed = r, readers, true
	w.endless = w.endless || r.Endless
	w.number++
	k.nudge()
	return w.number, true
}

// obeyed waits until the kernel has done the order of the number, or a later one.
func (k *Kernel) obeyed(name string, number uint64, unmet string) error {
	err := k.await(shutPatience, unmet, func() bool {
		w := k.wishes[name]
		return w == nil || w.done >= number
	})
	if err != nil {
		return fmt.Errorf("instance %s: %w", name, err)
	}
	return nil
}

// Shut closes the instance's port now. It returns when the kernel has done so, or with an error after 50 ms;
// then it goes on trying ([ErrTryingOn]) until that or another Open. An instance without rules is not closed, which is
// an error.
func (k *Kernel) Shut(name string) error {
	number, ok := k.order(name, Right{}, false)
	if !ok {
		return fmt.Errorf("instance %s has no rules in the kernel's fence; nothing was closed", name)
	}
	return k.obeyed(name, number, "its port is not closed")
}

// LetGo takes the instance's rules away, those that an earlier start left too: everybody passes. It is for a pair
// that was removed, and nothing else takes rules away. After [ErrTryingOn] it goes on trying.
func (k *Kernel) LetGo(name string) error {
	k.mu.Lock()
	delete(k.wishes, name)
	k.shape++
	shape := k.shape
	k.going[name] = shape
	k.mu.Unlock()
	err := k.await(guardPatience, "its rules are still in force", func() bool { return k.arranged >= shape })
	if err != nil {
		return fmt.Errorf("instance %s: %w", name, err)
	}
	return nil
}

// Healthy says why the rules may not be in force as wanted, or nil. A failure that the next attempt mends is none.
func (k *Kernel) Healthy() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.o.Clock()
	if k.err == nil && k.busy != 0 && now.Sub(k.busy) >= hold.FenceTime {
		return fmt.Errorf("the kernel has not answered for %v; somebody else may be changing a large ruleset",
			now.Sub(k.busy).Round(time.Millisecond))
	}
	if k.err != nil && now.Sub(k.failing) < hold.FenceTime {
		return nil
	}
	return k.err
}

// Stats counts since the start.
func (k *Kernel) Stats() KernelStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stats
}

// Close leaves the table as it is for the next start: what is open closes when its time is over. What was
// ordered a moment before may not have been done.
func (k *Kernel) Close() error {
	close(k.done)
	k.ended.Wait()
	return k.rules.close()
}

// await wakes the goroutine and waits until met, which is called with the mutex held.
func (k *Kernel) await(patience time.Duration, unmet string, met func() bool) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		k.mu.Lock()
		ok, turned, err := met(), k.turned, k.err
		k.mu.Unlock()
		if ok {
			return nil
		}
		k.nudge()
		select {
		case <-turned:
		case <-timer.C:
			if err == nil {
				err = fmt.Errorf("the kernel has not answered within %v", patience)
			}
			return fmt.Errorf("%s: %w: %w", unmet, ErrTryingOn, err)
		case <-k.done:
			return errors.New("the kernel's fence was left by this process")
		}
	}
}

func (k *Kernel) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
