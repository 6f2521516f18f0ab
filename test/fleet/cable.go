package fleet

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cable joins two TAP devices, a party's eth0 and the switch's port. Each direction has a thread of its own, ahead of
// others on the processor: a good line must stay one while the machine is busy.
type cable struct {
	party, port int // files of the two devices
	stop        int // readable when the threads are to end
	line        atomic.Pointer[Line]
	ended       sync.WaitGroup
}

const (
	// frameAtMost is the largest packet that the kernel hands over at once, with its two headers.
	frameAtMost = 1<<16 + 64
	// queuedAtMost is how many bytes of one direction may be on their way.
	queuedAtMost = 32 << 20
	// processors is how many threads of this program may run at once. A thread that carries packets must not wait
	// for one that counts answers; the kernel, which knows their priority, decides.
	processors = 32
)

// What TUNSETOFFLOAD may ask for.
const (
	offloadChecksums = 0x1 // TUN_F_CSUM
	offloadSegments  = 0x6 // TUN_F_TSO4 and TUN_F_TSO6
)

func newCable(party, hub *namespace, port string) (*cable, error) {
	runtime.GOMAXPROCS(max(processors, runtime.GOMAXPROCS(0)))
	c := &cable{party: -1, port: -1, stop: -1}
	c.line.Store(&Line{})
	var err error
	if c.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make a cable: %w", err)
	}
	if c.party, err = openTap(party, "eth0"); err == nil {
		c.port, err = openTap(hub, port)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	c.ended.Go(func() { c.carry(c.party, c.port) })
	c.ended.Go(func() { c.carry(c.port, c.party) })
	return c, nil
}

// openTap makes a device in a namespace, which is there until its file is closed.
func openTap(s *namespace, name string) (int, error) {
	fd := -1
	err := s.inside(func() error {
		var err error
		// The device is made where the thread is that opens this.
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("make device %s: open /dev/net/tun: %w; a fleet with lines needs TUN in the kernel", name, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("make device %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}

// set changes the cable. Only a cable that loses nothing is given packets of 64 KB, to be cut up at their end: where
// one in three is lost, each must be one that a real network would carry.
func (c *cable) set(l Line) error {
	c.line.Store(&l)
	offload := offloadChecksums
	if l.Loss == 0 {
		offload |= offloadSegments
	}
	for _, fd := range []int{c.party, c.port} {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
			return fmt.Errorf("set line: %w", err)
		}
	}
	return nil
}

// carrier says to the party whether its cable is in place.
func (c *cable) carrier(there bool) error {
	value := 0
	if there {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(c.party, unix.TUNSETCARRIER, value); err != nil {
		return fmt.Errorf("change the carrier: %w", err)
	}
	return nil
}

// close takes the cable away with all that is on its way, and with both devices.
func (c *cable) close() {
	if c == nil {
		return
	}
	_, _ = unix.Write(c.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it cannot fail: nobody reads it
	c.ended.Wait()
	for _, fd := range []int{c.party, c.port, c.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	c.party, c.port, c.stop = -1, -1, -1
}

// carry is one direction.
func (c *cable) carry(from, to int) {
	// Never unlocked: the thread ends with its priority.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15) // best effort
	late := &delayed{to: to, news: make(chan struct{}, 1), done: make(chan struct{})}
	c.ended.Go(late.run)
	defer close(late.done)
	buffer := make([]byte, frameAtMost)
	ready := []unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}, {Fd: int32(c.stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if ready[1].Revents != 0 {
			return
		}
		for {
			n, err := unix.Read(from, buffer)
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				break
			}
			if err != nil {
				return // the device is gone
			}
			c.pass(buffer[:n], to, late)
		}
	}
}

// pass sends one packet on, now, later or never.
func (c *cable) pass(frame []byte, to int, late *delayed) {
	l := c.line.Load()
	if l.Loss > 0 && rand.Float64() < l.Loss {
		return
	}
	delay := l.Delay
	if l.Jitter > 0 {
		delay += rand.N(2*l.Jitter) - l.Jitter
	}
	if delay <= 0 {
		send(to, frame)
		return
	}
	late.add(frame, time.Now().Add(delay))
}

// send puts a packet on the other side. A device that is down takes none: then it is lost, as it would be.
func send(to int, frame []byte) { _, _ = unix.Write(to, frame) }

// delayed are the packets of one direction that are on their way.
type delayed struct {
	to   int
	news chan struct{} // the first to arrive has changed
	done chan struct{}

	mu     sync.Mutex
	queue  packets
	bytes  int
	number int
}

type packet struct {
	frame  []byte
	due    time.Time
	number int // keeps the order of those that are due at once
}

type packets []packet

func (p packets) Len() int      { return len(p) }
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p packets) Less(i, j int) bool {
	if c := p[i].due.Compare(p[j].due); c != 0 {
		return c < 0
	}
	return p[i].number < p[j].number
}

func (p *packets) Pop() any {
	last := len(*p) - 1
	x := (*p)[last]
	*p = (*p)[:last]
	return x
}

// add keeps a copy of the packet until it is due.
func (d *delayed) add(frame []byte, due time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes > queuedAtMost {
		return
	}
	d.number++
	d.bytes += len(frame)
	heap.Push(&d.queue, packet{frame: append([]byte(nil), frame...), due: due, number: d.number})
	if d.queue[0].number == d.number {
		select {
		case d.news <- struct{}{}:
		default:
		}
	}
}

// run sends what is due until the cable ends.
func (d *delayed) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(d.sendDue())
		select {
		case <-d.done:
			return
		case <-d.news:
		case <-timer.C:
		}
	}
}

// sendDue says when the next one is.
func (d *delayed) sendDue() time.Duration {
	for {
		d.mu.Lock()
		if len(d.queue) == 0 {
			d.mu.Unlock()
			return time.Hour
		}
		if wait := time.Until(d.queue[0].due); wait > 0 {
			d.mu.Unlock()
			return wait
		}
		next := heap.Pop(&d.queue).(packet)
		d.bytes -= len(next.frame)
		d.mu.Unlock()
		send(d.to, next.frame)
	}
}

// requireTun fails before anything is made.
func requireTun() error {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("lines that can be made bad: %w; the kernel must have TUN", err)
	}
	return nil
}
