//go:build linux

package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// osUser is the operating system's user that owns the instance.
type osUser struct {
	name       string
	home       string
	uid, gid   int
	credential *syscall.Credential // nil if the agent is this user itself
}

func lookUser(name string) (osUser, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return osUser{}, fmt.Errorf("os_user %s: %w", name, err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	if errUID != nil || errGID != nil {
		return osUser{}, fmt.Errorf("os_user %s: ids %s and %s are not numbers", name, u.Uid, u.Gid)
	}
	found := osUser{name: name, home: u.HomeDir, uid: uid, gid: gid}
	switch {
	case uid == 0:
		return osUser{}, fmt.Errorf("os_user %s is root, and PostgreSQL refuses to run as root; "+
			"name another user", name)
	case os.Geteuid() == uid:
		return found, nil
	case os.Geteuid() != 0:
		return osUser{}, fmt.Errorf("the agent runs as user %d and cannot run PostgreSQL as %s; "+
			"run it as root or as %s", os.Geteuid(), name, name)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return osUser{}, fmt.Errorf("groups of os_user %s: %w", name, err)
	}
	found.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, g := range groups {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			found.credential.Groups = append(found.credential.Groups, uint32(id))
		}
	}
	return found, nil
}

// environment is what PostgreSQL's programs get to see: nothing of the agent's own, and messages in the
// language that the agent reads.
func (u osUser) environment() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "LANGUAGE=C",
		"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name}
}

// dial connects to a socket as this user, so that PostgreSQL's usual "local all all peer" lets a root
// agent in. Linux tells the server who the connecting thread was at that moment; so one thread takes the
// user's identity for the time of the call.
func (u osUser) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if u.credential == nil || network != "unix" {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	type dialed struct {
		conn net.Conn
		err  error
	}
	result := make(chan dialed, 1)
	go func() {
		runtime.LockOSThread()
		if err := threadIdentity(u.uid, u.gid); err != nil {
			result <- dialed{err: fmt.Errorf("act as %s: %w", u.name, err)}
			return // Still locked: the thread ends with this goroutine, and with it its identity.
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if threadIdentity(0, os.Getegid()) == nil {
			runtime.UnlockOSThread()
		}
		result <- dialed{conn: conn, err: err}
	}()
	r := <-result
	return r.conn, r.err
}

// threadIdentity sets the effective user and group of the calling thread only. The functions of package
// syscall would change all threads. The group goes first while the user may still change it.
func threadIdentity(uid, gid int) error {
	const same = ^uintptr(0)
	set := []func() syscall.Errno{
		func() syscall.Errno {
			_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, same, uintptr(gid), same)
			return errno
		},
		func() syscall.Errno {
			_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, uintptr(uid), same)
			return errno
		},
	}
	if uid == 0 {
		slices.Reverse(set)
	}
	for _, call := range set {
		if errno := call(); errno != 0 {
			return errno
		}
	}
	return nil
}
