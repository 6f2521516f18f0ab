package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/fence"
)

// FenceShown is what the kernel lets through for one instance now.
type FenceShown struct {
	Instance string
	Port     uint16
	Clients  string // who may come
	Left     string // for how long
}

// ShowFence reads the kernel's fence. An agent need not run.
func ShowFence(c Config) ([]FenceShown, error) {
	found, err := fence.ShowTable(c.Fence.Table)
	if err != nil {
		return nil, err
	}
	var list []FenceShown
	for _, s := range found {
		shown := FenceShown{Instance: s.Instance, Port: s.Port, Clients: "none", Left: "-"}
		switch {
		case s.Open && s.Readers:
			shown.Clients = "readers of a mirror"
		case s.Open:
			shown.Clients = "all"
		}
		switch {
		case s.Open && s.Endless:
			shown.Left = "no end (sole)"
		case s.Open:
			shown.Left = s.Left.Round(10 * time.Millisecond).String()
		}
		list = append(list, shown)
	}
	return list, nil
}

// RemoveFence takes the kernel's fence away. It refuses while an agent runs, which would put it back, and while an
// instance is in a pair, whose database would be opened without a right; opened says that this is meant.
func RemoveFence(c Config, opened bool) error {
	lock, err := lockDir(c.StateDir)
	if err != nil {
		return fmt.Errorf("stop the agent first; it would put its fence back: %w", err)
	}
	defer lock.Close()
	a := Agent{config: c, boot: bootID()}
	for _, i := range c.Instances {
		file, known, err := a.epochFileOf(i.Name).load()
		if err == nil && !known {
			continue
		}
		if err == nil {
			err = fmt.Errorf("instance %s is in pair %s", i.Name, file.Name)
		}
		if !opened {
			return errors.Join(err, errors.New("without its fence a database that has no right to serve may be opened: "+
				"remove the pair first (witnessctl pair remove), or say --yes"))
		}
	}
	return fence.RemoveTable(c.Fence.Table)
}
