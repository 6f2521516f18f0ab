package sqlservertest

import (
	"strings"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

func (p *parser) alter() statement {
	switch {
	case p.accept("DATABASE"):
		return p.alterDatabase()
	case p.accept("ENDPOINT"):
		p.name()
		p.expect("STATE", "=")
		started := p.accept("STARTED")
		if !started {
			p.expect("STOPPED")
		}
		return alterEndpoint{started}
	case p.accept("AVAILABILITY", "GROUP"):
		return p.alterGroup()
	}
	p.fail()
	return nil
}

func (p *parser) alterDatabase() statement {
	database := p.name()
	p.expect("SET")
	switch {
	case p.accept("PARTNER"):
		verb, argument := p.partner()
		return alterMirroring{database, verb, argument}
	case p.accept("WITNESS", "OFF"):
		return alterMirroring{database, model.WitnessOff, ""}
	case p.accept("WITNESS", "="):
		return alterMirroring{database, model.SetWitness, p.text()}
	case p.accept("HADR", "RESUME"):
		return alterHadr{database, "RESUME"}
	case p.accept("HADR", "SUSPEND"):
		return alterHadr{database, "SUSPEND"}
	case p.accept("HADR", "OFF"):
		return alterHadr{database, "OFF"}
	case p.accept("HADR", "AVAILABILITY", "GROUP", "="):
		p.name()
		return nothing{}
	case p.accept("RECOVERY", "FULL"):
		return nothing{}
	}
	p.fail()
	return nil
}

func (p *parser) partner() (model.Verb, string) {
	switch {
	case p.accept("="):
		return model.SetPartner, p.text()
	case p.accept("OFF"):
		return model.PartnerOff, ""
	case p.accept("FAILOVER"):
		return model.Failover, ""
	case p.accept("FORCE_SERVICE_ALLOW_DATA_LOSS"):
		return model.ForceService, ""
	case p.accept("SUSPEND"):
		return model.Suspend, ""
	case p.accept("RESUME"):
		return model.Resume, ""
	case p.accept("SAFETY", "FULL"):
		return model.SafetyFull, ""
	case p.accept("SAFETY", "OFF"):
		return model.SafetyOff, ""
	case p.accept("TIMEOUT"):
		return model.Timeout, p.number()
	}
	p.fail()
	return "", ""
}

// The verbs of ALTER AVAILABILITY GROUP that take a value; the others are written as in T-SQL.
const (
	groupRole     = "ROLE"
	groupRequired = "REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT"
	groupLease    = "WRITE_LEASE_VALIDITY"
	groupJoin     = "JOIN"
	groupFailover = "FAILOVER"
	groupForce    = "FORCE_FAILOVER_ALLOW_DATA_LOSS"
	groupOffline  = "OFFLINE"
	groupGrant    = "GRANT"
)

func (p *parser) alterGroup() statement {
	a := alterGroup{group: p.name()}
	for _, verb := range []string{groupFailover, groupForce, groupOffline} {
		if p.accept(verb) {
			a.verb = verb
			return a
		}
	}
	switch {
	case p.accept("SET", "("):
		for _, verb := range []string{groupRole, groupRequired, groupLease} {
			if p.accept(verb) {
				a.verb = verb
				p.expect("=")
				a.argument = strings.ToUpper(p.value())
				p.expect(")")
				return a
			}
		}
	case p.accept("JOIN"):
		a.verb = groupJoin
		if p.accept("WITH") {
			a.argument = p.options()["CLUSTER_TYPE"]
		}
		return a
	case p.accept("GRANT", "CREATE", "ANY", "DATABASE"):
		a.verb = groupGrant
		return a
	}
	p.fail()
	return nil
}

// value takes one word, number or string.
func (p *parser) value() string {
	t := p.take()
	if t.lexeme != lexWord && t.lexeme != lexNumber && t.lexeme != lexText {
		p.fail()
	}
	return t.text
}

// options takes (NAME = value, ...); of an option within an option only the last value counts.
func (p *parser) options() map[string]string {
	p.deeper()
	defer p.shallower()
	all := map[string]string{}
	p.expect("(")
	for {
		name := strings.ToUpper(p.name())
		switch {
		case p.peek().is("("):
			p.options()
		case p.accept("="):
			all[name] = p.value()
		}
		if p.accept(")") {
			return all
		}
		p.expect(",")
	}
}

func (p *parser) createGroup() statement {
	c := createGroup{group: p.name(), options: map[string]string{}}
	if p.accept("WITH") {
		c.options = p.options()
	}
	p.expect("FOR")
	if p.accept("DATABASE") {
		for c.databases = append(c.databases, p.name()); p.accept(","); {
			c.databases = append(c.databases, p.name())
		}
	}
	p.expect("REPLICA", "ON")
	for {
		r := replicaSpec{server: p.text()}
		p.expect("WITH")
		r.options = p.options()
		c.replicas = append(c.replicas, r)
		if !p.accept(",") {
			return c
		}
	}
}
