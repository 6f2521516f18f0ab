package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func (f *Fleet) level() string {
	if f.opts.Verbose {
		return "debug"
	}
	return "info"
}

// nodeConfig is the configuration file of a node.
func (f *Fleet) nodeConfig(n *Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node: %s\ndata_dir: %s\n", n.ID, filepath.Join(n.dir, "data"))
	fmt.Fprintf(&b, "raft: {listen: %q}\napi: {listen: %q}\nhttp: {listen: %q}\n", n.Raft, n.API, n.HTTP)
	fmt.Fprintf(&b, "log: {level: %s}\nnodes:\n", f.level())
	for _, other := range f.Nodes {
		fmt.Fprintf(&b, "  - {id: %s, raft: %q, api: %q}\n", other.ID, other.Raft, other.API)
	}
	return b.String()
}

// agentConfig is the configuration file of a host's agent.
func (f *Fleet) agentConfig(h *Host, name string) string {
	var b strings.Builder
	state := filepath.Join(h.dir, "state")
	if f.opts.StateOnDisk {
		state = filepath.Join(h.data(), "state")
	}
	fmt.Fprintf(&b, "host: %s\nstate_dir: %s\nrun_dir: %s\n", name, state, filepath.Join(h.dir, "run"))
	fmt.Fprintf(&b, "witness:\n  endpoints: [%s]\n", strings.Join(f.Endpoints(), ", "))
	fmt.Fprintf(&b, "link: {listen: %q, advertise: %q}\nhttp: {listen: %q}\n", h.Link, h.Link, h.HTTP)
	fmt.Fprintf(&b, "log: {level: %s}\n", f.level())
	if h.space != nil {
		fmt.Fprintf(&b, "fence: {level: %s, table: witness_agent}\n", h.FenceLevel)
	} else {
		// All hosts share the machine's own address, and must not touch the table of a real agent on it.
		fmt.Fprintf(&b, "fence: {level: engine, table: fleet_%d}\n", os.Getpid())
	}
	fmt.Fprintf(&b, "instances:\n  - name: db\n%s", h.engine.section())
	if h.Gate != "" {
		fmt.Fprintf(&b, "    gate: {listen: %q}\n", h.Gate)
	}
	return b.String()
}
