//go:build linux

package postgres

import (
	"context"
	"net"
	"slices"
	"strings"
)

// hbaRule is one line of pg_hba.conf as PostgreSQL has read it.
type hbaRule struct {
	kind             string // local, host, hostssl, ...
	databases, users []string
	address, mask    string
	method           string
}

// admits says whether the first rule that applies lets a role in from an address; unsure is true if a rule before
// it may apply but goes by what cannot be known here (host names, groups, the server's own networks).
func admits(rules []hbaRule, database, user string, from net.IP) (admitted, unsure bool) {
	for _, r := range rules {
		if r.kind == "local" || !slices.Contains(r.databases, database) && (database == "replication" ||
			!slices.Contains(r.databases, "all")) {
			continue
		}
		if !slices.Contains(r.users, user) && !slices.Contains(r.users, "all") {
			unsure = unsure || slices.ContainsFunc(r.users, func(u string) bool { return strings.HasPrefix(u, "+") })
			continue
		}
		match, known := r.covers(from)
		switch {
		case !known:
			unsure = true
		case match:
			return r.method != "reject", unsure
		}
	}
	return false, unsure
}

// covers says whether the rule is for connections from an address; known is false if only the server can tell.
func (r hbaRule) covers(from net.IP) (match, known bool) {
	if r.address == "all" {
		return true, true
	}
	ip := net.ParseIP(r.address)
	if ip == nil {
		return false, false
	}
	mask := net.ParseIP(r.mask)
	if four := ip.To4(); four != nil && from.To4() != nil && mask.To4() != nil {
		network := net.IPNet{IP: four, Mask: net.IPMask(mask.To4())}
		return network.Contains(from), true
	}
	if ip.To4() == nil && from.To4() == nil && mask != nil {
		network := net.IPNet{IP: ip, Mask: net.IPMask(mask.To16())}
		return network.Contains(from), true
	}
	return false, true
}

const hbaSQL = `select type, array_to_string(database, ','), array_to_string(user_name, ','),
	coalesce(address, ''), coalesce(netmask, ''), coalesce(auth_method, ''),
	coalesce('line ' || line_number || ': ' || error, '') from pg_hba_file_rules`

func (x *examiner) hbaRules(ctx context.Context) (rules []hbaRule, wrong string, err error) {
	rows, err := x.ask(ctx, hbaSQL)
	for _, row := range rows {
		if row.text(6) != "" {
			wrong = row.text(6)
			continue
		}
		rules = append(rules, hbaRule{
			kind: row.text(0), databases: strings.Split(row.text(1), ","), users: strings.Split(row.text(2), ","),
			address: row.text(3), mask: row.text(4), method: row.text(5),
		})
	}
	return rules, wrong, err
}

// wantsHBA are the addresses from which the replication role must be let in: the partner's, and this host's own,
// because a mirror that is cloned from here may get this very file.
func (x *examiner) wantsHBA(ctx context.Context, partner string) ([]net.IP, error) {
	theirs, err := addressesOf(ctx, partner)
	if err != nil {
		return nil, err
	}
	own, err := addressesOf(ctx, x.cfg.Advertise)
	if err != nil {
		return nil, err
	}
	var all []net.IP
	for _, ip := range slices.Concat(theirs, own) {
		if !slices.ContainsFunc(all, ip.Equal) {
			all = append(all, ip)
		}
	}
	return all, nil
}

func (x *examiner) checkHBA(ctx context.Context, partner string) {
	const name = "pg_hba.conf"
	rules, wrong, err := x.hbaRules(ctx)
	if err != nil || wrong != "" {
		x.bad(name, "mend the line", "%s %v", wrong, err)
		return
	}
	if partner == "" {
		x.weak(name, "give --partner", "not known whether it lets the partner in: %v", errNoPartner)
		return
	}
	addresses, err := x.wantsHBA(ctx, partner)
	if err != nil {
		x.bad(name, "set the address right", "%s", firstLine(err))
		return
	}
	for _, ip := range addresses {
		for _, database := range []string{"replication", x.cfg.Database} {
			admitted, unsure := admits(rules, database, x.cfg.ReplicationUser, ip)
			switch {
			case admitted:
				continue
			case unsure:
				x.weak(name, "run doctor on the partner too: it tries", "not known whether %s gets in from %v to %s",
					x.cfg.ReplicationUser, ip, database)
			default:
				x.bad(name, "host "+database+" "+x.cfg.ReplicationUser+" "+ip.String()+" scram-sha-256 (--fix does)",
					"does not let %s in from %v to %s", x.cfg.ReplicationUser, ip, database)
			}
			return
		}
	}
	x.good(name, "lets %s in from both hosts", x.cfg.ReplicationUser)
}
