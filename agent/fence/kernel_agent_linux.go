package fence

import (
	"encoding/binary"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// An agent that reaches its own database over TCP must do so also while nobody else may. It marks its sockets with
// [AgentMark], which needs the right to change these rules anyway; what comes over the loopback interface with that
// mark passes, and so do the answers to it, which have no mark: the peer is remembered from what it sent.
const (
	agentInChain, agentOutChain = "agent_in", "agent_out"
	agent4, agent6              = "agent4", "agent6"
	// agentLife is longer than an agent's connection is silent.
	agentLife = time.Minute
)

// agentChains let the agent's own connections pass.
type agentChains struct{ in, out *nftables.Chain }

func (w *writer) agents(in content) (agentChains, error) {
	own := agentChains{w.empty(agentInChain), w.empty(agentOutChain)}
	for _, f := range families(agent4, agent6) {
		set, err := w.clients(in, f, agentLife)
		if err != nil {
			return own, err
		}
		w.rule(own.in, f.peer(f.from, fromPort), []expr.Any{
			&expr.Dynset{SrcRegKey: peerRegister, SetName: set.Name, Operation: unix.NFT_DYNSET_OP_UPDATE},
		}, accept())
		w.rule(own.out, f.peer(f.to, toPort), []expr.Any{
			&expr.Lookup{SourceRegister: peerRegister, SetName: set.Name},
		}, accept())
	}
	return own, nil
}

// marked is met by what this host's agent sends to this host.
func marked() []expr.Any {
	loopback := make([]byte, unix.IFNAMSIZ)
	copy(loopback, "lo")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: loopback},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, AgentMark)},
	}
}

// family is one of IPv4 and IPv6: where addresses are in a packet, and a set of clients with such addresses.
type family struct {
	number         byte
	from, to, size uint32
	set            string
	address        nftables.SetDatatype
}

func families(set4, set6 string) []family {
	return []family{
		{unix.NFPROTO_IPV4, 12, 16, 4, set4, nftables.TypeIPAddr},
		{unix.NFPROTO_IPV6, 8, 24, 16, set6, nftables.TypeIP6Addr},
	}
}

// peerRegister holds a client's address and port.
const peerRegister = unix.NFT_REG32_00

// peer loads the address and the port of the other end, of a packet of this family.
func (f family) peer(address, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.number}},
		&expr.Payload{DestRegister: peerRegister, Base: expr.PayloadBaseNetworkHeader, Offset: address, Len: f.size},
		&expr.Payload{
			DestRegister: peerRegister + f.size/4, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2,
		},
	}
}

// clients makes a set of addresses with ports that rules fill.
func (w *writer) clients(in content, f family, life time.Duration) (*nftables.Set, error) {
	key, err := nftables.ConcatSetType(f.address, nftables.TypeInetService)
	if err != nil {
		return nil, err
	}
	set := w.timed(f.set, key)
	set.Dynamic, set.Timeout, set.Size = true, life, clientsSize
	return set, w.addSet(set, in)
}

const clientsSize = 1 << 16
