//go:build !linux

package postgres

import (
	"context"
	"errors"
	"log/slog"

	"github.com/witnessd/witnessd/agent/engine"
)

var _ engine.Engine = (*Engine)(nil)

// Engine exists on Linux only: that a dead server is noticed and a fenced one is gone rests on Linux's pidfd
// and /proc.
type Engine struct{}

var errLinuxOnly = errors.New("PostgreSQL is driven on Linux only; use the command engine here")

// New refuses.
func New(Config, *slog.Logger) (*Engine, error) { return nil, errLinuxOnly }

// Kind names the engine.
func (*Engine) Kind() string { return "postgres" }

// Address is empty.
func (*Engine) Address() string { return "" }

// Observe refuses.
func (*Engine) Observe(context.Context) (engine.State, error) { return engine.State{}, errLinuxOnly }

// Exits delivers nothing.
func (*Engine) Exits() <-chan engine.Exit { return nil }

// Follow refuses.
func (*Engine) Follow(context.Context, engine.Peer, func(engine.Progress)) error { return errLinuxOnly }

// Standby refuses.
func (*Engine) Standby(context.Context) error { return errLinuxOnly }

// Promote refuses.
func (*Engine) Promote(context.Context, engine.Peer) error { return errLinuxOnly }

// HoldCommits refuses.
func (*Engine) HoldCommits(context.Context, engine.Peer) error { return errLinuxOnly }

// ReleaseCommits refuses.
func (*Engine) ReleaseCommits(context.Context) error { return errLinuxOnly }

// HandOver refuses.
func (*Engine) HandOver(context.Context, engine.Peer) (engine.Handover, error) {
	return engine.Handover{}, errLinuxOnly
}

// Stop refuses.
func (*Engine) Stop(context.Context) error { return errLinuxOnly }

// Fence refuses.
func (*Engine) Fence(context.Context) error { return errLinuxOnly }

// LetGo refuses.
func (*Engine) LetGo(context.Context) error { return errLinuxOnly }

// Close does nothing.
func (*Engine) Close() error { return nil }
