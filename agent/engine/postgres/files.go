//go:build linux

package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// store writes files into the data directory as the instance's owner. It goes through os.Root and creates
// every file anew: the directory belongs to a user with fewer rights than the agent may have, and a link
// planted there must not lead a root agent to write elsewhere.
type store struct {
	root *os.Root
	user osUser
}

func openStore(dir string, user osUser) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	return &store{root: root, user: user}, nil
}

func (s *store) close() { _ = s.root.Close() }

// mkdir makes a directory of the owner's, unless it is there.
func (s *store) mkdir(name string) error {
	err := s.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	if err := s.root.Lchown(name, s.user.uid, s.user.gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", name, s.user.name, err)
	}
	return nil
}

// write replaces a file at once and whole: a server that reads it sees the old or the new content.
func (s *store) write(name string, content []byte, mode fs.FileMode, durable bool) error {
	if err := s.replace(name, content, mode, durable); err != nil {
		return fmt.Errorf("write %s in the data directory: %w", name, err)
	}
	return nil
}

func (s *store) replace(name string, content []byte, mode fs.FileMode, durable bool) error {
	draft := name + ".draft"
	if err := s.root.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.root.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chown(s.user.uid, s.user.gid)
	}
	if err == nil {
		err = f.Chmod(mode) // Whatever the agent's umask has made of it.
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(draft, name); err != nil || !durable {
		return err
	}
	return s.sync(path.Dir(name))
}

// ensure writes a file durably unless it already has this content.
func (s *store) ensure(name string, content []byte) error {
	have, err := s.root.ReadFile(name)
	if err == nil && bytes.Equal(have, content) {
		return nil
	}
	return s.write(name, content, 0o600, true)
}

// remove deletes a file durably, if it is there.
func (s *store) remove(name string) error {
	err := s.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.sync(path.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("remove %s from the data directory: %w", name, err)
	}
	return nil
}

func (s *store) has(name string) bool {
	_, err := s.root.Lstat(name)
	return err == nil
}

// sync makes names in a directory durable.
func (s *store) sync(name string) error {
	dir, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// syncPath makes names in a directory outside the data directory durable.
func syncPath(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ownerOf is who a file belongs to; by default otherwise.
func ownerOf(info fs.FileInfo, otherwise osUser) osUser {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return osUser{uid: int(stat.Uid), gid: int(stat.Gid)}
	}
	return otherwise
}
