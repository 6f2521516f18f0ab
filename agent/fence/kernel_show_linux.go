package fence

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
)

// RemoveTable takes the fence away: everybody passes. It is not an error if there is none. A running agent puts
// its table back.
func RemoveTable(table string) error { return newNetRules(table, 0).remove() }

func (r *netRules) remove() error {
	_, ours, err := r.content()
	there := ours
	if err == nil && !ours {
		if there, err = r.exists(); there {
			err = fmt.Errorf("table inet %s was not made by an agent of this release; nothing was removed", r.table.Name)
		}
	}
	if err == nil && there {
		err = r.transact(func(c *nftables.Conn) error {
			c.DelTable(r.table)
			return nil
		})
	}
	if gone(err) {
		err = nil
	}
	if err = errors.Join(err, r.drop()); err != nil {
		return fmt.Errorf("remove the fence of the kernel: %w", err)
	}
	return nil
}

// ShowTable reads from the kernel what passes now. It works beside a running agent, and without one. It is an
// error if there is no table.
func ShowTable(table string) ([]Shown, error) { return newNetRules(table, 0).show() }

func (r *netRules) show() ([]Shown, error) {
	in, ours, err := r.content()
	if err == nil && !ours {
		err = fmt.Errorf("there is no table inet %s of an agent: nothing is fenced", r.table.Name)
	}
	var list []Shown
	for _, name := range in.sets {
		s, ok := parseOpenSet(name)
		if err != nil || !ok {
			continue
		}
		err = r.with(func() error { return r.showSets(&s) })
		list = append(list, s)
	}
	if err = errors.Join(err, r.drop()); err != nil {
		return nil, fmt.Errorf("show the fence of the kernel: %w", err)
	}
	slices.SortFunc(list, func(a, b Shown) int { return cmp.Compare(a.Instance, b.Instance) })
	return list, nil
}

// parseOpenSet takes the name of an instance's open set apart; see openSet.
func parseOpenSet(name string) (Shown, bool) {
	instance, port, ok := parseSet(name)
	return Shown{Instance: instance, Port: port}, ok && strings.HasPrefix(name, openPrefix)
}

// parseSet takes the name of any set of an instance apart.
func parseSet(name string) (instance string, port uint16, ok bool) {
	for _, prefix := range []string{openPrefix, readsPrefix, awayPrefix} {
		if rest, found := strings.CutPrefix(name, prefix); found {
			digits, instance, both := strings.Cut(rest, "_")
			port, err := strconv.ParseUint(digits, 10, 16)
			return instance, uint16(port), both && err == nil
		}
	}
	return "", 0, false
}

func (r *netRules) showSets(s *Shown) error {
	service := Service{Name: s.Instance, Port: s.Port}
	for _, name := range []string{openSet(service), readsSet(service)} {
		elements, err := r.conn.GetSetElements(r.ports(name))
		if err != nil {
			return fmt.Errorf("read the set %s: %w", name, err)
		}
		for _, e := range elements {
			s.Open, s.Readers = true, name == readsSet(service)
			s.Endless, s.Left = e.Timeout == 0, e.Expires
		}
		if s.Open {
			return nil
		}
	}
	return nil
}
