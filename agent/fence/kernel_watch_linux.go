package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ruleID names a rule: numbers are not used twice in the life of a table.
type ruleID struct {
	chain  string
	handle uint64
}

// ruleIDs lists the rules of the table. The library lists those of one chain only.
func (r *netRules) ruleIDs() ([]ruleID, error) {
	var list []ruleID
	err := r.with(func() error {
		for range 10 {
			answers, err := r.ask(unix.NFT_MSG_GETRULE, netlink.Dump, unix.NFTA_RULE_TABLE, r.table.Name, 0, "")
			if err != nil {
				return fmt.Errorf("list the rules: %w", err)
			}
			if slices.ContainsFunc(answers, interrupted) {
				continue
			}
			for _, a := range answers {
				id, err := decodeRuleID(a)
				if err != nil {
					return fmt.Errorf("list the rules: %w", err)
				}
				list = append(list, id)
			}
			return nil
		}
		return errors.New("list the rules: others change the ruleset all the time")
	})
	return list, err
}

// interrupted says that the ruleset was changed while it was listed, so the list may not be whole.
func interrupted(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 }

func decodeRuleID(m netlink.Message) (ruleID, error) {
	if m.Header.Type != message(unix.NFT_MSG_NEWRULE) || len(m.Data) < 4 {
		return ruleID{}, fmt.Errorf("the kernel answered with a message of type %v", m.Header.Type)
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return ruleID{}, err
	}
	ad.ByteOrder = binary.BigEndian
	var id ruleID
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_CHAIN:
			id.chain = ad.String()
		case unix.NFTA_RULE_HANDLE:
			id.handle = ad.Uint64()
		}
	}
	return id, ad.Err()
}

// intact compares the rules with those that arrange made. A set cannot be taken away while a rule uses it, nor
// a chain that has rules without them.
func (r *netRules) intact() error {
	var asleep bool
	err := r.with(func() error {
		t, err := r.conn.ListTableOfFamily(r.table.Name, r.table.Family)
		asleep = err == nil && t.Flags != 0
		return err
	})
	if gone(err) {
		return fmt.Errorf("%w: the table %s is gone", errLost, r.table.Name)
	}
	if err != nil {
		return fmt.Errorf("look for the table: %w", err)
	}
	if asleep {
		return fmt.Errorf("%w: the table %s was put to sleep", errLost, r.table.Name)
	}
	now, err := r.ruleIDs()
	if err != nil {
		return err
	}
	if !slices.Equal(now, r.made) {
		return fmt.Errorf("%w: rules of the table %s differ", errLost, r.table.Name)
	}
	return nil
}

// watch hears what is changed in the ruleset by anybody, and wakes who keeps the rules.
type watch struct {
	table  string
	socket *netlink.Conn
	woken  chan struct{}
	done   chan struct{}
	ended  sync.WaitGroup
}

func startWatch(table string, netns int) (*watch, error) {
	socket, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, classify(err)
	}
	if err := socket.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(classify(err), socket.Close())
	}
	w := &watch{table: table, socket: socket, woken: make(chan struct{}, 1), done: make(chan struct{})}
	w.ended.Go(w.run)
	return w, nil
}

func (w *watch) close() {
	close(w.done)
	_ = w.socket.Close()
	w.ended.Wait()
}

// breath bounds how often somebody who changes the ruleset all the time has it looked at.
const breath = 20 * time.Millisecond

// run is the watch's goroutine. When it cannot hear, the fence looks by itself every second.
func (w *watch) run() {
	for {
		list, err := w.socket.Receive()
		select {
		case <-w.done:
			return
		default:
		}
		// An error means that something was missed.
		if err == nil && !slices.ContainsFunc(list, w.matters) {
			continue
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
		select {
		case <-w.done:
			return
		case <-time.After(breath):
		}
	}
}

// matters is whether a message tells of a change of the table, its chains or rules. Renewals change elements.
func (w *watch) matters(m netlink.Message) bool {
	switch m.Header.Type {
	case message(unix.NFT_MSG_DELTABLE), message(unix.NFT_MSG_NEWTABLE), message(unix.NFT_MSG_DELCHAIN),
		message(unix.NFT_MSG_NEWRULE), message(unix.NFT_MSG_DELRULE):
	default:
		return false
	}
	if len(m.Data) < 4 {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return true
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME { // the same number in all of these messages
			return ad.String() == w.table
		}
	}
	return false
}
