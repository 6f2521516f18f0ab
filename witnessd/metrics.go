package witnessd

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/arbiter"
)

// metrics counts what the arbiter tells; the rest is read off the node when it is asked for.
type metrics struct {
	heartbeats *prometheus.CounterVec
	answers    prometheus.Histogram
	proposals  *prometheus.CounterVec
	pairs      *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{
		heartbeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witnessd_heartbeats_total",
			Help: "Heartbeats that reached this node as the leader, by result (taken, dropped).",
		}, []string{"result"}),
		answers: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "witnessd_answer_seconds",
			Help:    "Time from the receipt of a heartbeat to its answer, most of it the confirmation by a quorum.",
			Buckets: []float64{.005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5},
		}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witnessd_proposals_total",
			Help: "Changes that this node proposed, by outcome (applied, refused, dropped, unknown).",
		}, []string{"outcome"}),
		pairs: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "witnessd_pairs",
			Help: "Pairs in this node's ledger, by state.",
		}, []string{"state"}),
	}
	// A rate over a series that appears with its first count misses that count.
	for _, result := range []string{"taken", "dropped"} {
		m.heartbeats.WithLabelValues(result)
	}
	for _, outcome := range []string{"applied", "refused", "dropped", "unknown"} {
		m.proposals.WithLabelValues(outcome)
	}
	return m
}

func (m *metrics) HeartbeatTaken()              { m.heartbeats.WithLabelValues("taken").Inc() }
func (m *metrics) HeartbeatDropped()            { m.heartbeats.WithLabelValues("dropped").Inc() }
func (m *metrics) Answered(after time.Duration) { m.answers.Observe(after.Seconds()) }
func (m *metrics) Proposed(outcome string)      { m.proposals.WithLabelValues(outcome).Inc() }

// register adds them, and what is read off the node, to the node's registry.
func (m *metrics) register(n *Node) error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		m.heartbeats, m.answers, m.proposals, pairStates{m.pairs, n},
		gauge("witnessd_leader", "1 while this node leads, else 0.", func() float64 {
			if n.store.State() == raftstore.Leader {
				return 1
			}
			return 0
		}),
		gauge("witnessd_term", "Term that this node is in.", func() float64 { return float64(n.store.CurrentTerm()) }),
		gauge("witnessd_applied_index", "Last log entry in this node's ledger.", func() float64 {
			return float64(n.ledger.AppliedIndex())
		}),
		gauge("witnessd_sessions", "Agents' sessions on this node.", func() float64 { return float64(n.rpc.Sessions()) }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := n.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// pairStates counts the pairs of the ledger when it is asked.
type pairStates struct {
	*prometheus.GaugeVec
	node *Node
}

func (p pairStates) Collect(ch chan<- prometheus.Metric) {
	counts := make(map[string]int)
	for _, state := range arbiter.States() {
		counts[state] = 0
	}
	for _, r := range p.node.ledger.Pairs() {
		counts[arbiter.State(r)]++
	}
	for state, n := range counts {
		p.WithLabelValues(state).Set(float64(n))
	}
	p.GaugeVec.Collect(ch)
}

// httpServer serves /metrics and /healthz. The latter says 200 while agents and clients get answers by this
// node, and else 503.
func (n *Node) httpServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !n.rpc.Ready() {
			http.Error(w, "no leader is known", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}
