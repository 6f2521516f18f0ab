package fleet

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
)

// Node is one process of the witness.
type Node struct {
	ID      string
	API     string
	Raft    string
	HTTP    string
	dir     string
	config  string
	space   *namespace
	clock   *clock // nil: the machine's
	process *process
	fleet   *Fleet
}

// addresses chooses free ports, or, in a namespace of the node's own, the ports of real life.
func (n *Node) addresses() error {
	if n.fleet.network == nil {
		ports, err := freePorts(3)
		if err != nil {
			return err
		}
		n.Raft, n.API, n.HTTP = ports[0], ports[1], ports[2]
		return nil
	}
	var err error
	if n.space, err = n.fleet.network.join(n.ID); err != nil {
		return err
	}
	at := func(port string) string { return net.JoinHostPort(n.space.address.String(), port) }
	n.Raft, n.API, n.HTTP = at("7400"), at("7401"), at("7402")
	return nil
}

// Start starts the node's process.
func (n *Node) Start() error {
	p, err := start(program{
		space: n.space, log: filepath.Join(n.dir, "log"), path: filepath.Join(n.fleet.bin, "witnessd"),
		args: []string{"run", "--config", n.config}, env: n.clock.env(),
	})
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.ID, err)
	}
	n.process = p
	return nil
}

// Kill ends the node's process with SIGKILL.
func (n *Node) Kill() {
	n.process.kill()
}

// Stop ends the node's process in an orderly way.
func (n *Node) Stop() {
	n.process.signal(syscall.SIGTERM)
	n.process.wait()
}

// Freeze stops the node's process with SIGSTOP.
func (n *Node) Freeze() { n.process.signal(syscall.SIGSTOP) }

// Thaw lets a stopped node go on.
func (n *Node) Thaw() { n.process.signal(syscall.SIGCONT) }

// Logs returns the end of a node's log.
func (n *Node) Logs(lines int) string { return tail(filepath.Join(n.dir, "log"), lines) }
