//go:build !linux

package fence

import (
	"context"
	"errors"
)

// errOtherSystem is what everything of the kernel's fence says here.
var errOtherSystem = errors.New("the kernel's fence exists on Linux only; use another fence")

func openRuleset(KernelOptions) (ruleset, error) { return nil, errOtherSystem }

// RemoveTable has nothing to remove on this system.
func RemoveTable(string) error { return nil }

// ShowTable has nothing to show on this system.
func ShowTable(string) ([]Shown, error) { return nil, errOtherSystem }

// TryKernel says that this system has no such fence.
func TryKernel(context.Context, string) error { return errOtherSystem }
