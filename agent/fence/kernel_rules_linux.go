package fence

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The base chains. They come a bit before the usual filter chains, which may accept what they like: a reject
// here is final.
const (
	inputChain   = "input"
	outputChain  = "output"
	forwardChain = "forward"
	priority     = -10
)

// writer collects the rules of a table in a transaction.
type writer struct {
	*nftables.Conn
	table *nftables.Table
	count int
	sets  uint32
}

// bases are the base chains; each has a jump to each instance's chain of it.
type bases struct {
	input, output, forward *nftables.Chain
}

// write makes the table in the transaction what the plan says, given what is in it. Rules are replaced within
// their chains, so that each packet meets either all of the old ones or all of the new ones; sets that stay
// keep their elements. It returns the number of rules.
func (r *netRules) write(c *nftables.Conn, in content, p plan) (int, error) {
	w := &writer{Conn: c, table: r.table}
	c.AddTable(r.table)
	token := w.timed(tokenSet, nftables.TypeMark)
	token.Timeout = tokenLife
	sets := []string{tokenSet, told4, told6, agent4, agent6}
	chains := []string{layout, inputChain, outputChain, forwardChain, tellChain, agentInChain, agentOutChain}
	if err := w.addSet(token, in); err != nil {
		return 0, err
	}
	c.AddChain(&nftables.Chain{Table: r.table, Name: layout})
	b := bases{
		w.base(inputChain, nftables.ChainHookInput), w.base(outputChain, nftables.ChainHookOutput),
		w.base(forwardChain, nftables.ChainHookForward),
	}
	tell, err := w.tell(in)
	if err != nil {
		return 0, err
	}
	own, err := w.agents(in)
	if err != nil {
		return 0, err
	}
	known := slices.Clone(p.letGo)
	for _, s := range p.states {
		known = append(known, s.service.Name)
		sets, chains = append(sets, setNames(s.service)...), append(chains, chainNames(s.service.Name)...)
		if err := w.elements(in, s); err != nil {
			return 0, err
		}
		w.service(b, tell, own, s.service)
	}
	// Those that are known come first: what a former name of theirs has left does not cut their clients.
	keptSets, keptChains := w.keep(b, in, known)
	w.remove(in, append(chains, keptChains...), append(sets, keptSets...))
	return w.count, nil
}

// elements makes the service's sets, and puts into them what must be.
func (w *writer) elements(in content, s state) error {
	replaced := s.fresh && s.replaces(in)
	for _, name := range setNames(s.service) {
		set := w.timed(name, nftables.TypeInetService)
		if err := w.addSet(set, in); err != nil {
			return err
		}
		if replaced && slices.Contains(in.sets, name) {
			w.FlushSet(set)
		}
	}
	for _, e := range s.elements() {
		if slices.Contains(in.sets, e.set) && !replaced {
			continue
		}
		if err := w.SetAddElements(w.timed(e.set, nftables.TypeInetService), e.element()); err != nil {
			return err
		}
	}
	return nil
}

// leftLate is how much later than the right known here an element may end that an earlier process left for the same
// right: it had [tokenLife] for it, and the kernel its ticks.
const leftLate = tokenLife + 50*time.Millisecond

// replaces is whether what another has left open must give way to what is known of the right: it has no end and the
// right has, or it ends too late for the right. What ends by itself in time is left alone: an element that is
// put in anew ends a bit later each time.
func (s state) replaces(in content) bool {
	for _, name := range setNames(s.service) {
		e, open := in.open[name]
		switch {
		case !open, s.endless:
		case e.left == 0, s.timed && e.left > s.left+leftLate:
			return true
		}
	}
	return false
}

// keep leaves the rules of instances that are not known as they are, and has the new base chains go through them.
// What they have open without end is closed: no right stands behind it, and nothing would ever end it.
func (w *writer) keep(b bases, in content, known []string) (sets, chains []string) {
	for _, name := range in.sets {
		instance, _, ok := parseSet(name)
		if !ok || slices.Contains(known, instance) {
			continue
		}
		sets = append(sets, name)
		if e, open := in.open[name]; open && e.left == 0 {
			w.FlushSet(w.timed(name, nftables.TypeInetService))
		}
	}
	for _, base := range []*nftables.Chain{b.input, b.output, b.forward} {
		for _, name := range in.chains {
			instance, ok := strings.CutPrefix(name, base.Name+ofInstance)
			if !ok || slices.Contains(known, instance) {
				continue
			}
			w.rule(base, tcp(), jump(&nftables.Chain{Name: name}))
		}
	}
	for _, name := range in.chains {
		for _, prefix := range []string{
			inPrefix, outPrefix, inputChain + ofInstance, outputChain + ofInstance, forwardChain + ofInstance,
		} {
			if instance, ok := strings.CutPrefix(name, prefix); ok && !slices.Contains(known, instance) {
				chains = append(chains, name)
				w.count += in.rules[name]
			}
		}
	}
	return sets, chains
}

// addSet adds a set that is not there yet. Its number must be set here: the library would count in a variable that
// all connections share without a mutex.
func (w *writer) addSet(set *nftables.Set, in content) error {
	if slices.Contains(in.sets, set.Name) {
		return nil
	}
	w.sets++
	set.ID = w.sets
	return w.AddSet(set, nil)
}

// remove takes away what nothing needs any more: rules first, which refer to chains and sets.
func (w *writer) remove(in content, chains, sets []string) {
	var going []*nftables.Chain
	for _, name := range in.chains {
		if !slices.Contains(chains, name) {
			c := &nftables.Chain{Table: w.table, Name: name}
			w.FlushChain(c)
			going = append(going, c)
		}
	}
	for _, c := range going {
		w.DelChain(c)
	}
	for _, name := range in.sets {
		if !slices.Contains(sets, name) && !strings.HasPrefix(name, "__") {
			w.DelSet(&nftables.Set{Table: w.table, Name: name})
		}
	}
}

func (w *writer) timed(name string, key nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Table: w.table, Name: name, KeyType: key, HasTimeout: true}
}

func (w *writer) base(name string, hook *nftables.ChainHook) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	c := w.AddChain(&nftables.Chain{
		Table: w.table, Name: name, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority),
		Type: nftables.ChainTypeFilter, Policy: &accept,
	})
	w.FlushChain(c)
	return c
}

func (w *writer) rule(c *nftables.Chain, parts ...[]expr.Any) {
	w.AddRule(&nftables.Rule{Table: w.table, Chain: c, Exprs: slices.Concat(parts...)})
	w.count++
}

// part is an instance's chain of a base chain, empty.
func (w *writer) part(base *nftables.Chain, s Service) *nftables.Chain {
	c := w.empty(base.Name + ofInstance + s.Name)
	w.rule(base, tcp(), jump(c))
	return c
}

func (w *writer) empty(name string) *nftables.Chain {
	c := w.AddChain(&nftables.Chain{Table: w.table, Name: name})
	w.FlushChain(c)
	return c
}

// service writes the rules of one instance.
func (w *writer) service(b bases, tell *nftables.Chain, own agentChains, s Service) {
	in, out := w.empty(inChain(s)), w.empty(outChain(s))
	w.rule(in, marked(), jump(own.in))
	w.rule(out, jump(own.out))
	input, output, forward := w.part(b.input, s), w.part(b.output, s), w.part(b.forward, s)
	for _, address := range anyAddress(s.Addresses) {
		w.rule(input, to(address), tcpPort(toPort, s.Port), jump(in))
		w.rule(output, from(address), tcpPort(fromPort, s.Port), jump(out))
	}
	if s.PartnerPort != 0 {
		// The partner's fence lets this host's address in, for replication. Clients that run on this host must
		// not come in with it once this host serves, nor hear late answers from there. What comes in is known
		// by its socket's owner only where the kernel finds the socket early, as it does unless it was told not
		// to. What this host forwards (containers, virtual machines) may leave it with this host's address
		// too; no database of this host is behind it.
		for _, p := range s.Partners {
			for range lookups {
				away := lookup(awaySet(s))
				w.rule(input, from(p), tcp(), loadPort(fromPort), away, notUser(s.User), reject())
				w.rule(output, to(p), tcp(), loadPort(toPort), away, notUser(s.User), reject())
				w.rule(forward, from(p), tcp(), loadPort(fromPort), away, reject())
				w.rule(forward, to(p), tcp(), loadPort(toPort), away, reject())
			}
		}
	}
	w.verdicts(in, s, toPort, from)
	w.rule(in, reject())
	w.verdicts(out, s, fromPort, to)
	w.rule(out, jump(tell))
}

// verdicts writes what lets a packet between a client and the database pass. What leaves is looked at too,
// because of the answer that a stopped and resumed database gives after its right has ended.
func (w *writer) verdicts(c *nftables.Chain, s Service, port uint32, peer func(netip.Addr) []expr.Any) {
	for _, set := range []string{openSet(s), readsSet(s)} {
		for range lookups {
			w.rule(c, loadPort(port), lookup(set), accept())
		}
	}
	for _, p := range s.Partners {
		w.rule(c, peer(p), accept())
	}
	// Resets carry no answer, and those that the rules send pass these chains too.
	w.rule(c, resetFlag(), accept())
}

// The chain that tells a client, and then the database, that their connection is over, and the sets of clients
// that have been told.
const (
	tellChain    = "tell"
	told4, told6 = "told4", "told6"
	// toldLife is longer than it takes until a database sends again what was not acknowledged.
	toldLife = 5 * time.Second
)

// tell writes the chain for what a closed database sends. A client that waits for an answer sends nothing, so
// it would wait for ever were the packet only rejected, which tells the database. The first packet is therefore
// made into a reset, in which receivers ignore what it carries, and goes to the client; when the database sends
// again, it gets a reset itself.
func (w *writer) tell(in content) (*nftables.Chain, error) {
	c := w.empty(tellChain)
	for _, f := range families(told4, told6) {
		set, err := w.clients(in, f, toldLife)
		if err != nil {
			return nil, err
		}
		client := f.peer(f.to, toPort)
		w.rule(c, client, []expr.Any{&expr.Lookup{SourceRegister: peerRegister, SetName: set.Name}}, reject())
		w.rule(c, client, []expr.Any{
			&expr.Dynset{SrcRegKey: peerRegister, SetName: set.Name, Operation: unix.NFT_DYNSET_OP_ADD},
		}, makeReset(), accept())
	}
	w.rule(c, reject()) // the set is full
	return c, nil
}

// makeReset turns a TCP packet into a reset. The flags are written together with their neighbour, as a checksum
// counts bytes in twos.
func makeReset() []expr.Any {
	const at, length = flagsAt - 1, 2
	const checksumAt, headerLength, ackFlag = 16, 0xf0, 16
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: length},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: length,
			Mask: []byte{headerLength, 0}, Xor: []byte{0, rstFlag | ackFlag},
		},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: length,
			CsumType: expr.CsumTypeInet, CsumOffset: checksumAt,
		},
	}
}

// lookups is how often a set is looked up for a verdict. A renewal replaces an element; in kernels before 6.17
// a lookup on another CPU that began before that may find neither the old one nor the new. A second lookup
// begins after it. Without it a renewal would now and then reset a client.
const lookups = 2

// anyAddress is the list, or the zero address that stands for every one.
func anyAddress(list []netip.Addr) []netip.Addr {
	if len(list) == 0 {
		return []netip.Addr{{}}
	}
	return list
}

// Places of the addresses in the headers of IPv4 and IPv6.
func from(a netip.Addr) []expr.Any { return address(a, 12, 8) }
func to(a netip.Addr) []expr.Any   { return address(a, 16, 24) }

func address(a netip.Addr, at4, at6 uint32) []expr.Any {
	if !a.IsValid() {
		return nil
	}
	family, at := byte(unix.NFPROTO_IPV4), at4
	if a.Is6() {
		family, at = unix.NFPROTO_IPV6, at6
	}
	b := a.AsSlice()
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: uint32(len(b))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b},
	}
}

// Places of the ports in TCP's header.
const (
	fromPort, toPort = 0, 2
	flagsAt, rstFlag = 13, 4
)

func loadPort(at uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2},
	}
}

func tcpPort(at uint32, port uint16) []expr.Any {
	return slices.Concat(tcp(), loadPort(at), []expr.Any{
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: portBytes(port)},
	})
}

func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// resetFlag is for chains that only TCP comes to.
func resetFlag() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{rstFlag}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
	}
}

// notUser is met by sockets of others. Packets without a socket (of a connection that is over) do not meet it.
func notUser(uid uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, uid)},
	}
}

func lookup(set string) []expr.Any { return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}} }

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func jump(c *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}}
}

// reject tells the sender that the connection is over, so that it does not wait for what never comes.
func reject() []expr.Any {
	return append(tcp(), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
}
