//go:build !linux

package sqlserver

import "syscall"

// markSocket is for Linux: elsewhere there is no fence of the kernel's.
func markSocket(uint32) func(network, address string, c syscall.RawConn) error { return nil }
