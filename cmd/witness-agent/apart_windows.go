package main

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// apart gives a process a group of its own and no console: the end of the agent's does not end it.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}
