package fleet

import (
	"errors"
	"fmt"
)

// unplug pulls the party's cable: its own address goes on working inside, as it does on a real host.
func (s *namespace) unplug() error {
	err := s.network.hub.ip(fmt.Sprintf("link set %s down", s.port))
	if s.cable != nil {
		err = errors.Join(err, s.cable.carrier(false))
	}
	return err
}

func (s *namespace) plug() error {
	err := s.network.hub.ip(fmt.Sprintf("link set %s up", s.port))
	if s.cable != nil {
		err = errors.Join(err, s.cable.carrier(true))
	}
	return err
}

// nobody is an Ethernet address that no party has. What is sent there reaches nobody, and the sender gets no error:
// this is how a filter between two parties looks to both.
const nobody = "02:77:00:00:ff:ff"

// lose loses everything that one party sends to another, without an error. The other direction works on.
func (s *namespace) lose(to *namespace) error {
	return s.ip(fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", to.address, nobody))
}

// deliver undoes lose.
func (s *namespace) deliver(to *namespace) error {
	return s.ip(fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud reachable", to.address, to.mac))
}

// cut loses everything between two parties, in both directions.
func cut(a, b *namespace) error { return errors.Join(a.lose(b), b.lose(a)) }

// mend undoes cut.
func mend(a, b *namespace) error { return errors.Join(a.deliver(b), b.deliver(a)) }

// isolate takes the switch's port out of the switch. The cable itself is good all the time: nobody inside sees
// anything but silence.
func (s *namespace) isolate() error {
	return s.network.hub.ip(fmt.Sprintf("link set %s nomaster", s.port))
}

// rejoin undoes isolate.
func (s *namespace) rejoin() error {
	return s.network.hub.ip(fmt.Sprintf("link set %s master br0", s.port))
}

// Unplug pulls the host's network cable.
func (h *Host) Unplug() error { return h.space.unplug() }

// Plug puts it back.
func (h *Host) Plug() error { return h.space.plug() }

// Cut loses everything between this host and another, in both directions.
func (h *Host) Cut(other *Host) error { return cut(h.space, other.space) }

// Mend undoes Cut.
func (h *Host) Mend(other *Host) error { return mend(h.space, other.space) }

// CutNode loses everything between this host and a node.
func (h *Host) CutNode(n *Node) error { return cut(h.space, n.space) }

// MendNode undoes CutNode.
func (h *Host) MendNode(n *Node) error { return mend(h.space, n.space) }

// CutToward loses what this host sends to another; what the other sends arrives.
func (h *Host) CutToward(other *Host) error { return h.space.lose(other.space) }

// MendToward undoes CutToward.
func (h *Host) MendToward(other *Host) error { return h.space.deliver(other.space) }

// CutTowardNode loses what this host sends to a node; what the node sends arrives.
func (h *Host) CutTowardNode(n *Node) error { return h.space.lose(n.space) }

// MendTowardNode undoes CutTowardNode.
func (h *Host) MendTowardNode(n *Node) error { return h.space.deliver(n.space) }

// CutAll loses everything from and to this host, without an error and with the cable in place: a switch that has
// failed, or a filter.
func (h *Host) CutAll() error { return h.space.isolate() }

// MendAll undoes CutAll, and no other cut.
func (h *Host) MendAll() error { return h.space.rejoin() }

// CutToward loses what this node sends to a host; what the host sends arrives.
func (n *Node) CutToward(h *Host) error { return n.space.lose(h.space) }

// MendToward undoes CutToward.
func (n *Node) MendToward(h *Host) error { return n.space.deliver(h.space) }

// Cut loses everything between this node and another, in both directions.
func (n *Node) Cut(other *Node) error { return cut(n.space, other.space) }

// Mend undoes Cut.
func (n *Node) Mend(other *Node) error { return mend(n.space, other.space) }

// CutTowardNode loses what this node sends to another; what the other sends arrives.
func (n *Node) CutTowardNode(other *Node) error { return n.space.lose(other.space) }

// MendTowardNode undoes CutTowardNode.
func (n *Node) MendTowardNode(other *Node) error { return n.space.deliver(other.space) }

// CutAll loses everything from and to this node, without an error and with the cable in place.
func (n *Node) CutAll() error { return n.space.isolate() }

// MendAll undoes CutAll, and no other cut.
func (n *Node) MendAll() error { return n.space.rejoin() }
