package fence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// layout names the chain by which a table is known to be laid out as this code does. It is counted up when
	// what Shut and Open touch is named or typed in another way; such a table is replaced.
	layout = "layout_2"
	// tokenSet holds the tokens. It has been the same in every layout, so that a replacement can be guarded.
	tokenSet = "token"
	// buffer has room for the answers to a transaction of some hundred instances. Answers that find no room are lost.
	buffer = 4 << 20
	// patience is for an answer that was lost. The kernel does the work while the message is sent, so the answer
	// is there or never comes.
	patience = time.Second
)

// netRules are the rules in the kernel's nf_tables. It belongs to one goroutine.
type netRules struct {
	table  *nftables.Table
	netns  int
	at     func(step string)
	buffer int

	conn   *nftables.Conn // nil: to be opened
	socket *netlink.Conn  // conn's
	token  uint32
	made   []ruleID // what arrange made
	watch  *watch
}

func openRuleset(o KernelOptions) (ruleset, error) {
	r := newNetRules(o.Table, o.netns)
	r.at = o.at
	if err := r.open(); err != nil {
		return nil, err
	}
	var err error
	if r.watch, err = startWatch(o.Table, o.netns); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to changes of the ruleset: %w", err), r.drop())
	}
	return r, nil
}

func newNetRules(table string, netns int) *netRules {
	return &netRules{
		table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}, netns: netns,
		at: func(string) {}, buffer: buffer, token: rand.Uint32(),
	}
}

// open makes the connection if there is none.
func (r *netRules) open() error {
	if r.conn != nil {
		return nil
	}
	var socket *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(r.netns),
		nftables.WithSockOptions(func(s *netlink.Conn) error {
			socket = s
			return errors.Join(s.SetReadBuffer(r.buffer), s.SetWriteBuffer(buffer))
		}))
	if err != nil {
		if socket != nil {
			err = errors.Join(err, socket.Close())
		}
		return fmt.Errorf("open a netlink socket: %w", classify(err))
	}
	r.conn, r.socket = conn, socket
	return nil
}

// drop gives the connection up: after a failure answers of the failed transaction may be left in its queue, and
// would be taken for those of the next.
func (r *netRules) drop() error {
	if r.conn == nil {
		return nil
	}
	err := r.conn.CloseLasting()
	r.conn, r.socket = nil, nil
	return err
}

func (r *netRules) close() error {
	if r.watch != nil {
		r.watch.close()
	}
	return r.drop()
}

func (r *netRules) changes() <-chan struct{} { return r.watch.woken }

// transact sends what fill gives the connection as one transaction. After an error it is not known what
// the kernel did, but for the one that it reports itself: then it did nothing.
func (r *netRules) transact(fill func(c *nftables.Conn) error) error {
	return r.with(func() error {
		if err := fill(r.conn); err != nil {
			return err
		}
		return r.conn.Flush()
	})
}

// with runs work on an open connection and drops it after an error.
func (r *netRules) with(work func() error) error {
	if err := r.open(); err != nil {
		return err
	}
	// Conn's own CloseLasting waits for the Flush that is to be interrupted.
	socket := r.socket
	stuck := time.AfterFunc(patience, func() { _ = socket.Close() })
	err := work()
	if !stuck.Stop() && err == nil {
		err = fmt.Errorf("no answer from the kernel after %v", patience)
	}
	if err != nil {
		return errors.Join(classify(err), r.drop())
	}
	return nil
}

// classify says what to do about errors that an administrator can do something about.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w (%w)", ErrNoTables, err)
	}
	return err
}

// gone is whether an error says that something named in the transaction is not there.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, os.ErrNotExist) }

func (r *netRules) shut(services []Service) error {
	err := r.transact(func(c *nftables.Conn) error {
		for _, s := range services {
			r.flush(c, s)
		}
		return nil
	})
	if gone(err) {
		return fmt.Errorf("%w (%w)", errLost, err)
	}
	return err
}

func (r *netRules) renew(states func() []state) error {
	r.at("before token")
	if err := r.putToken(false); err != nil {
		if gone(err) {
			return fmt.Errorf("%w (%w)", errLost, err)
		}
		return err
	}
	r.at("token")
	list := states()
	err := r.transact(func(c *nftables.Conn) error {
		if err := r.takeToken(c); err != nil {
			return err
		}
		for _, s := range list {
			r.flush(c, s.service)
			for _, e := range s.elements() {
				if err := c.SetAddElements(r.ports(e.set), e.element()); err != nil {
					return err
				}
			}
		}
		r.at("ready")
		return nil
	})
	r.at("sent")
	if gone(err) {
		if r.hasToken() {
			return fmt.Errorf("%w (%w)", errLost, err)
		}
		return fmt.Errorf("%w (%w)", errTokenOut, err)
	}
	return err
}

// hasToken is whether the token of a transaction that failed is still there: then the failure was not its.
func (r *netRules) hasToken() bool {
	found := false
	err := r.with(func() error {
		list, err := r.conn.GetSetElements(r.set(tokenSet, nftables.TypeMark))
		found = slices.ContainsFunc(list, func(e nftables.SetElement) bool { return bytes.Equal(e.Key, r.tokenKey()) })
		return err
	})
	return err == nil && found
}

// putToken adds a token with a life of its own. With create it makes the table for it too.
func (r *netRules) putToken(create bool) error {
	r.token++
	return r.transact(func(c *nftables.Conn) error {
		set := r.set(tokenSet, nftables.TypeMark)
		set.Timeout = tokenLife
		if create {
			c.AddTable(r.table)
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
		}
		return c.SetAddElements(set, []nftables.SetElement{{Key: r.tokenKey(), Timeout: tokenLife}})
	})
}

// takeToken makes the transaction fail, all of it, if the token has run out.
func (r *netRules) takeToken(c *nftables.Conn) error {
	return c.SetDeleteElements(r.set(tokenSet, nftables.TypeMark), []nftables.SetElement{{Key: r.tokenKey()}})
}

func (r *netRules) tokenKey() []byte { return binary.NativeEndian.AppendUint32(nil, r.token) }

func (r *netRules) flush(c *nftables.Conn, s Service) {
	for _, name := range setNames(s) {
		c.FlushSet(r.ports(name))
	}
}

// timedPort is an element of a set of ports.
type timedPort struct {
	set  string
	port uint16
	left time.Duration // 0: no end
}

func (p timedPort) element() []nftables.SetElement {
	return []nftables.SetElement{{Key: portBytes(p.port), Timeout: p.left}}
}

// elements is what must be in the sets for the state.
func (s state) elements() []timedPort {
	if !s.endless && s.left < shortestOpening {
		return nil
	}
	left := s.left
	if s.endless {
		left = 0
	}
	if s.readers {
		return []timedPort{{readsSet(s.service), s.service.Port, left}}
	}
	list := []timedPort{{openSet(s.service), s.service.Port, left}}
	if s.service.PartnerPort != 0 {
		list = append(list, timedPort{awaySet(s.service), s.service.PartnerPort, left})
	}
	return list
}

func portBytes(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// The names of what one instance has in the table. The port is in the sets' names, so that an element that was left
// for a former port opens nothing, and can be shown.
func openSet(s Service) string  { return fmt.Sprintf("%s%d_%s", openPrefix, s.Port, s.Name) }
func readsSet(s Service) string { return fmt.Sprintf("%s%d_%s", readsPrefix, s.Port, s.Name) }
func awaySet(s Service) string  { return fmt.Sprintf("%s%d_%s", awayPrefix, s.PartnerPort, s.Name) }
func inChain(s Service) string  { return inPrefix + s.Name }
func outChain(s Service) string { return outPrefix + s.Name }

const (
	openPrefix, readsPrefix, awayPrefix = "open_", "reads_", "away_"
	inPrefix, outPrefix                 = "in_", "out_"
	// The instance's rules of a base chain are in a chain of their own, named after both.
	ofInstance = "_"
)

// chainNames lists what an instance has, whatever its service.
func chainNames(instance string) []string {
	list := []string{inPrefix + instance, outPrefix + instance}
	for _, base := range []string{inputChain, outputChain, forwardChain} {
		list = append(list, base+ofInstance+instance)
	}
	return list
}

// setNames lists the service's sets.
func setNames(s Service) []string {
	list := []string{openSet(s), readsSet(s)}
	if s.PartnerPort != 0 {
		list = append(list, awaySet(s))
	}
	return list
}

func (r *netRules) ports(name string) *nftables.Set { return r.set(name, nftables.TypeInetService) }

func (r *netRules) set(name string, key nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Table: r.table, Name: name, KeyType: key, HasTimeout: true}
}

// content is what a table has that matters to arrange.
type content struct {
	sets, chains []string
	open         map[string]timedPort // by set; what is not in it is closed
	rules        map[string]int       // how many there are in a chain
}

// content reads the table; ours is false if there is none of this layout. A list may lack something if the
// ruleset was changed meanwhile. Then something stays that nobody uses.
func (r *netRules) content() (in content, ours bool, err error) {
	err = r.with(func() error {
		_, err := r.ask(unix.NFT_MSG_GETCHAIN, 0, unix.NFTA_CHAIN_TABLE, r.table.Name, unix.NFTA_CHAIN_NAME, layout)
		if gone(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for the table: %w", err)
		}
		ours = true
		chains, err := r.conn.ListChainsOfTableFamily(r.table.Family)
		if err != nil {
			return fmt.Errorf("list the chains: %w", err)
		}
		for _, c := range chains {
			if c.Table.Name == r.table.Name {
				in.chains = append(in.chains, c.Name)
			}
		}
		sets, err := r.conn.GetSets(r.table)
		if err != nil {
			return fmt.Errorf("list the sets: %w", err)
		}
		for _, s := range sets {
			in.sets = append(in.sets, s.Name)
		}
		return nil
	})
	return in, ours, err
}

// exists is whether there is a table of the name, whoever made it.
func (r *netRules) exists() (bool, error) {
	err := r.with(func() error {
		_, err := r.conn.ListTableOfFamily(r.table.Name, r.table.Family)
		return err
	})
	if gone(err) {
		return false, nil
	}
	return err == nil, err
}

// ask sends a request about what two attributes name, the second of which may be 0.
func (r *netRules) ask(kind int, flags netlink.HeaderFlags, attr1 uint16, name1 string, attr2 uint16, name2 string,
) ([]netlink.Message, error) {
	attrs := []netlink.Attribute{{Type: attr1, Data: []byte(name1 + "\x00")}}
	if attr2 != 0 {
		attrs = append(attrs, netlink.Attribute{Type: attr2, Data: []byte(name2 + "\x00")})
	}
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	return r.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: message(kind), Flags: netlink.Request | flags},
		Data:   append([]byte{byte(r.table.Family), unix.NFNETLINK_V0, 0, 0}, b...),
	})
}

func message(kind int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)
}

// details reads what arrange must know beyond the names, to go on with what is there.
func (r *netRules) details(in *content) error {
	ids, err := r.ruleIDs()
	if err != nil {
		return err
	}
	in.rules, in.open = map[string]int{}, map[string]timedPort{}
	for _, id := range ids {
		in.rules[id.chain]++
	}
	return r.with(func() error {
		for _, name := range in.sets {
			if _, _, ok := parseSet(name); !ok {
				continue
			}
			elements, err := r.conn.GetSetElements(r.ports(name))
			if err != nil {
				return fmt.Errorf("read the set %s: %w", name, err)
			}
			for _, e := range elements {
				p := timedPort{set: name}
				if e.Timeout != 0 {
					p.left = max(e.Expires, 1)
				}
				in.open[name] = p
			}
		}
		return nil
	})
}

func (r *netRules) left() ([]Shown, error) {
	in, _, err := r.content()
	var list []Shown
	for _, name := range in.sets {
		if s, ok := parseOpenSet(name); ok {
			list = append(list, s)
		}
	}
	return list, err
}

func (r *netRules) arrange(makePlan func() plan) error {
	in, ours, err := r.content()
	if err == nil && ours {
		err = r.details(&in)
	}
	if gone(err) {
		return fmt.Errorf("%w (%w)", errLost, err)
	}
	if err != nil {
		return err
	}
	if err := r.putToken(true); errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("make the table: %w (%w)", ErrNoTables, err)
	} else if err != nil {
		return fmt.Errorf("make the table: %w", err)
	}
	r.at("token")
	p := makePlan()
	slices.SortFunc(p.states, func(a, b state) int { return strings.Compare(a.service.Name, b.service.Name) })
	count := 0
	err = r.transact(func(c *nftables.Conn) error {
		if err := r.takeToken(c); err != nil {
			return err
		}
		if !ours {
			c.DelTable(r.table)
		}
		count, err = r.write(c, in, p)
		r.at("ready")
		return err
	})
	r.at("sent")
	switch {
	case gone(err) && !r.hasToken():
		return fmt.Errorf("%w (%w)", errTokenOut, err)
	case gone(err) && r.changedSince(in):
		return fmt.Errorf("%w (%w)", errLost, err)
	case gone(err), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (%w)", ErrNoExpression, err)
	case err != nil:
		return err
	}
	r.made, err = r.ruleIDs()
	if err == nil && len(r.made) != count {
		err = fmt.Errorf("%w: %d rules of %d", errLost, len(r.made), count)
	}
	return err
}

// changedSince is whether others took something of the table away since it was read. The transaction relied on it.
func (r *netRules) changedSince(in content) bool {
	now, _, err := r.content()
	return err != nil || !slices.Equal(now.chains, in.chains) || !slices.Equal(now.sets, in.sets)
}
