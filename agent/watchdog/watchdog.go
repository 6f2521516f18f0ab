// Package watchdog lets others end an agent that hangs: systemd, which kills and restarts it (WatchdogSec in its
// unit), and a watchdog device, which restarts the host.
//
// Both are fed by [Watchdog.Turn] and by nothing else, and Turn is called by the agent's loop: what the agent does
// beside its loop may go on for ever without a right being looked after.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// DefaultDeviceTimeout is after what a device that is not fed restarts the host.
const DefaultDeviceTimeout = 10 * time.Second

// feeds is how often a watchdog is fed within its timeout. One feed may be lost, and another late.
const feeds = 4

// statusEvery bounds how often systemd is told a new status.
const statusEvery = time.Second

// Options say what to feed.
type Options struct {
	// Device is the path of a watchdog device, such as /dev/watchdog; empty: none.
	Device string
	// DeviceTimeout is rounded up to a second; 0: DefaultDeviceTimeout. The device may choose another one.
	DeviceTimeout time.Duration
	Logger        *slog.Logger
}

// Watchdog feeds what there is to feed. Its methods are called by one goroutine at a time; Failures by any. The zero
// value feeds nothing.
type Watchdog struct {
	log      *slog.Logger
	systemd  *notifier // nil: not started by systemd, or not on Linux
	said     string    // last status
	saidAt   time.Duration
	meals    []*meal
	failures atomic.Uint64
}

// meal is one thing to feed.
type meal struct {
	name  string
	every time.Duration
	limit time.Duration // 0: not known
	feed  func() error
	stop  func() error // orderly

	begun  bool
	fed    time.Duration
	failed bool // and told
}

// Open finds out what there is to feed. It takes what systemd has left for the agent out of the environment, so
// that no child of the agent feeds in its place: it must be called before one is started. The error says what is not
// in force; the Watchdog does the rest all the same.
func Open(options Options) (*Watchdog, error) {
	w := &Watchdog{log: options.Logger}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	return w, errors.Join(w.openSystemd(), w.openDevice(options))
}

func (w *Watchdog) openSystemd() error {
	// The library's own SdNotify looks at the environment at each call, and dials each time.
	socket := os.Getenv("NOTIFY_SOCKET")
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return fmt.Errorf("take NOTIFY_SOCKET out of the environment: %w", err)
	}
	limit, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return fmt.Errorf("systemd's watchdog is not fed: %w", err)
	}
	if socket == "" {
		return nil
	}
	if w.systemd, err = openNotifier(socket); err != nil {
		return fmt.Errorf("systemd is not told that the agent is ready, nor its watchdog fed: %w", err)
	}
	if limit > 0 {
		w.meals = append(w.meals, &meal{
			name: "systemd", limit: limit, every: limit / feeds, stop: func() error { return nil },
			feed: func() error { return w.systemd.send(daemon.SdNotifyWatchdog) },
		})
	}
	return nil
}

func (w *Watchdog) openDevice(options Options) error {
	if options.Device == "" {
		return nil
	}
	timeout := options.DeviceTimeout
	if timeout <= 0 {
		timeout = DefaultDeviceTimeout
	}
	d, err := openDevice(options.Device)
	if err != nil {
		return fmt.Errorf("the host is not restarted when the agent hangs: %w", err)
	}
	limit, err := d.setTimeout(timeout)
	every := timeout / feeds
	if limit > 0 {
		every = limit / feeds
	}
	w.meals = append(w.meals, &meal{name: options.Device, limit: limit, every: every, feed: d.feed, stop: d.disarm})
	if err != nil {
		return fmt.Errorf("it is not known when %s restarts the host: %w", options.Device, err)
	}
	return nil
}

// Turn is called at each turn of the loop, and decides itself what is due. now is any clock that does not go back.
// status is called when it may be told.
func (w *Watchdog) Turn(ctx context.Context, now time.Duration, status func() string) {
	for _, m := range w.meals {
		if m.begun && now-m.fed < m.every {
			continue
		}
		m.begun, m.fed = true, now
		w.tell(ctx, m.feed(), m.name, &m.failed)
	}
	if w.systemd == nil || w.said != "" && now-w.saidAt < statusEvery {
		return
	}
	w.saidAt = now
	if text := status(); text != w.said {
		w.said = text
		// What systemd shows is not worth a word when it is missed.
		_ = w.systemd.send("STATUS=" + text)
	}
}

// tell counts a failure, and logs it once: the next ones are a quarter of a timeout apart.
func (w *Watchdog) tell(ctx context.Context, err error, name string, told *bool) {
	if err == nil {
		return
	}
	w.failures.Add(1)
	if !*told {
		*told = true
		w.log.ErrorContext(ctx, "watchdog not fed", "watchdog", name, "error", err)
	}
}

// Ready tells systemd that the agent has started; from here on it waits to be fed.
func (w *Watchdog) Ready(ctx context.Context) {
	if w.systemd == nil {
		return
	}
	if err := w.systemd.send(daemon.SdNotifyReady); err != nil {
		w.failures.Add(1)
		w.log.ErrorContext(ctx, "systemd not told that the agent is ready", "error", err)
	}
}

// Stop is for an orderly stop: systemd is told, and the device is disarmed. A process that ends without it leaves
// the device armed: the host is restarted unless the next start feeds it in time.
func (w *Watchdog) Stop(ctx context.Context) {
	if w.systemd != nil {
		_ = w.systemd.send(daemon.SdNotifyStopping)
	}
	for _, m := range w.meals {
		if err := m.stop(); err != nil {
			w.log.ErrorContext(ctx, "watchdog not disarmed", "watchdog", m.name, "error", err)
		}
	}
	w.meals = nil
}

// Limit is after what the first of the watchdogs in force acts, counted from the last turn of the loop; 0: there is
// none whose time is known.
func (w *Watchdog) Limit() time.Duration {
	shortest := time.Duration(0)
	for _, m := range w.meals {
		if m.limit > 0 && (shortest == 0 || m.limit < shortest) {
			shortest = m.limit
		}
	}
	return shortest
}

// Failures is how often a watchdog could not be fed.
func (w *Watchdog) Failures() uint64 { return w.failures.Load() }
