//go:build !linux

package postgrestest

import "syscall"

// as changes nothing: PostgreSQL is driven on Linux only.
func as(string) (*syscall.SysProcAttr, error) { return nil, nil }
