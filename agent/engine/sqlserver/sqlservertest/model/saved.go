package model

import (
	"encoding/json"
	"errors"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
)

// This file is what an instance remembers besides its logs, in instance.json.

type savedInstance struct {
	Stopped   bool // the endpoint
	NextID    int32
	Databases []savedDatabase
	Sessions  []savedSession
	Watched   []savedWatch
}

type savedDatabase struct {
	Name      string
	ID        int32
	Restoring bool
}

// file is the path of a file in the instance's directory.
func (i *Instance) file(name string) string { return filepath.Join(i.options.Dir, name) }

func (i *Instance) logFile(db string) string { return i.file(neturl.PathEscape(fold(db)) + ".log") }

const savedFile = "instance.json"

// save makes the loop's state durable.
func (i *Instance) save() error {
	s := savedInstance{Stopped: i.stopped, NextID: i.nextID}
	for _, d := range i.databases {
		s.Databases = append(s.Databases, savedDatabase{d.name, d.id, d.restoring})
	}
	for _, session := range i.sessions {
		s.Sessions = append(s.Sessions, session.savedSession)
	}
	for _, w := range i.watched {
		s.Watched = append(s.Watched, w.savedWatch)
	}
	return i.saveFile(savedFile, s)
}

// saveFile writes a value as JSON to a file of the directory, whole or not at all.
func (i *Instance) saveFile(name string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err == nil {
		err = writeDurably(i.file(name), data)
	}
	if err != nil {
		return fmt.Errorf("instance %s cannot write %s: %w", i.options.Name, name, err)
	}
	return nil
}

func writeDurably(path string, data []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// restore reads what save wrote, and the logs.
func (i *Instance) restore() error {
	data, err := os.ReadFile(i.file(savedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var s savedInstance
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("instance %s cannot read what it remembers: %w", i.options.Name, err)
	}
	i.stopped, i.nextID = s.Stopped, s.NextID
	for _, saved := range s.Databases {
		d, err := openDatabase(i.logFile(saved.Name), saved.Name, saved.ID)
		if err != nil {
			i.closeFiles()
			return err
		}
		d.restoring = saved.Restoring
		i.databases = append(i.databases, d)
	}
	for _, saved := range s.Sessions {
		i.sessions = append(i.sessions, &session{savedSession: saved, db: i.database(saved.Database)})
	}
	for _, saved := range s.Watched {
		i.watched = append(i.watched, &watch{savedWatch: saved, connected: map[string]bool{}})
	}
	return nil
}
