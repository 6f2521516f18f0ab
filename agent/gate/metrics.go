package gate

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is what a status screen shows of a gate.
type Stats struct {
	// Waiting, Local and Partner are clients that are connected now: to nobody yet, to the database of this host,
	// to the partner's gate.
	Waiting, Local, Partner int
	// Cuts are the connections that the gate has ended because their route was over.
	Cuts uint64
	// ToServers and ToClients are bytes passed since Serve began.
	ToServers, ToClients uint64
}

// Stats counts now.
func (g *Gate) Stats() Stats {
	s := Stats{
		Waiting: int(g.waiting.Load()), Local: int(g.passing[toLocal].Load()),
		Partner: int(g.passing[toPartner].Load()), Cuts: g.cuts.Load(),
	}
	g.mu.Lock()
	crew := g.crew
	g.mu.Unlock()
	for _, c := range crew {
		up, down := c.carried()
		s.ToServers += up
		s.ToClients += down
	}
	return s
}

type metrics struct {
	accepted   prometheus.Counter
	refused    *prometheus.CounterVec
	dialErrors *prometheus.CounterVec
	wait       prometheus.Histogram
	all        []prometheus.Collector
}

// Values of the label "destination".
const (
	localName   = "local"
	partnerName = "partner"
)

func newMetrics(g *Gate) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "witness_agent_gate_accepted_total", Help: "Clients that connected to the gate."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witness_agent_gate_refused_total",
			Help: "Clients that were refused, or went away while they waited, by reason."}, []string{"reason"}),
		dialErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witness_agent_gate_dial_errors_total",
			Help: "Failed attempts to connect a client, by destination."}, []string{"destination"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "witness_agent_gate_wait_seconds",
			Help:    "Time from a client's connection to its connection to a primary.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60}}),
	}
	gauge := func(name, help string, labels prometheus.Labels, f func(Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return f(g.Stats()) })
	}
	counter := func(name, help string, labels prometheus.Labels, f func(Stats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return f(g.Stats()) })
	}
	const connections, connectionsHelp = "witness_agent_gate_connections", "Connections that the gate passes now."
	const bytes, bytesHelp = "witness_agent_gate_bytes_total", "Bytes that the gate has passed."
	m.all = []prometheus.Collector{
		m.accepted, m.refused, m.dialErrors, m.wait,
		gauge(connections, connectionsHelp, prometheus.Labels{"destination": localName},
			func(s Stats) float64 { return float64(s.Local) }),
		gauge(connections, connectionsHelp, prometheus.Labels{"destination": partnerName},
			func(s Stats) float64 { return float64(s.Partner) }),
		gauge("witness_agent_gate_waiting", "Clients that wait for a primary.", nil,
			func(s Stats) float64 { return float64(s.Waiting) }),
		counter("witness_agent_gate_cuts_total", "Connections cut because their route was over.", nil,
			func(s Stats) float64 { return float64(s.Cuts) }),
		counter(bytes, bytesHelp, prometheus.Labels{"direction": "to_server"},
			func(s Stats) float64 { return float64(s.ToServers) }),
		counter(bytes, bytesHelp, prometheus.Labels{"direction": "to_client"},
			func(s Stats) float64 { return float64(s.ToClients) }),
	}
	return m
}

// register adds the metrics to a registry and returns what takes them out again.
func (m *metrics) register(r prometheus.Registerer, instance string) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	r = prometheus.WrapRegistererWith(prometheus.Labels{"instance": instance}, r)
	unregister = func() {
		for _, c := range m.all {
			r.Unregister(c)
		}
	}
	for _, c := range m.all {
		err = errors.Join(err, r.Register(c))
	}
	if err != nil {
		unregister()
	}
	return unregister, err
}
