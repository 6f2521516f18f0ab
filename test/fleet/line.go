package fleet

import (
	"errors"
	"fmt"
	"time"
)

// Line is what a cable does to what is sent over it, in each direction. The zero value is a good one.
type Line struct {
	Loss   float64       // share of packets that are lost, 0 to 1
	Delay  time.Duration // of each packet
	Jitter time.Duration // each packet's delay is Delay more or less up to this much; packets may overtake each other
}

// SetLine makes the host's cable good or bad. It needs Options.Lines.
func (h *Host) SetLine(l Line) error { return h.space.setLine(l) }

// SetLine makes the node's cable good or bad. It needs Options.Lines.
func (n *Node) SetLine(l Line) error { return n.space.setLine(l) }

func (s *namespace) setLine(l Line) error {
	if s == nil || s.cable == nil {
		return errors.New("set line: the cable is the kernel's; start the fleet with Options.Lines")
	}
	if l.Loss < 0 || l.Loss > 1 || l.Delay < 0 || l.Jitter < 0 {
		return fmt.Errorf("set line %+v: loss must be from 0 to 1, delay and jitter not below 0", l)
	}
	s.line = l
	return s.cable.set(l)
}

// layLine wires the party with a cable of this process's own making, because the kernel at hand may have none that
// loses or delays. It is as bad as the one before it.
func (s *namespace) layLine() error {
	hub := s.network.hub
	var err error
	if s.cable, err = newCable(s, hub, s.port); err != nil {
		return err
	}
	err = s.ip("link set eth0 address "+s.mac, fmt.Sprintf("link set eth0 txqueuelen %d", lineQueue),
		fmt.Sprintf("addr add %s/16 dev eth0", s.address), "link set eth0 up")
	if err != nil {
		return err
	}
	if err := hub.ip(fmt.Sprintf("link set %s txqueuelen %d", s.port, lineQueue)); err != nil {
		return err
	}
	return s.cable.set(s.line)
}

// lineQueue is how many packets the kernel keeps for the cable. When it is full the kernel loses some, as a switch
// does, but a good line should lose none.
const lineQueue = 4000
