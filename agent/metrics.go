package agent

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/agent/fence"
)

// metrics are what the loop counts.
type metrics struct {
	heartbeats prometheus.Counter
	answers    prometheus.Counter
	fences     prometheus.Counter
	roundTrip  prometheus.Histogram
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		heartbeats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "witness_agent_heartbeats_total", Help: "Heartbeats sent to the witness."}),
		answers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "witness_agent_answers_total", Help: "Heartbeats that the witness answered."}),
		fences: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "witness_agent_fences_total", Help: "Times that this agent ended service."}),
		roundTrip: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "witness_agent_answer_seconds", Help: "Time from sending a heartbeat to its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 3}}),
	}
	reg.MustRegister(m.heartbeats, m.answers, m.fences, m.roundTrip)
	return m
}

// counters are what other parts of the agent count.
func counters(unfed, dropped func() uint64, kernel func() fence.KernelStats) []prometheus.Collector {
	counter := func(name, help string, count func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "witness_agent_" + name, Help: help},
			func() float64 { return float64(count()) })
	}
	return []prometheus.Collector{
		counter("watchdog_failures_total", "Times that a watchdog could not be fed.", unfed),
		counter("kernel_fence_rebuilt_total", "Times that the kernel's fence was changed by others and put back.",
			func() uint64 { return uint64(kernel().Rebuilt) }),
		counter("kernel_fence_late_total", "Renewals of the kernel's fence that had to be done again.",
			func() uint64 { return uint64(kernel().Late) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "witness_agent_kernel_fence_delay_seconds", Help: "Longest renewal of the kernel's fence since the start.",
		}, func() float64 { return kernel().LongestDelay.Seconds() }),
		counter("hooks_dropped_total", "Changes of role that no hook was run for, because too many waited.", dropped),
	}
}

// statusMetrics are made at each scrape from what was last published, and like the endpoints do not believe a stuck
// loop.
type statusMetrics struct {
	clock Clock
	look  func() *snapshot

	serving, following, epoch, right, fence, watchdog, warning, lag *prometheus.Desc
}

func newStatusMetrics(clock Clock, look func() *snapshot) *statusMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("witness_agent_"+name, help, append([]string{"instance"}, labels...), nil)
	}
	return &statusMetrics{
		clock: clock, look: look,
		serving:   desc("serving", "1 if clients may write here as primary."),
		following: desc("following", "1 if the mirror receives changes."),
		epoch:     desc("epoch", "Highest epoch heard."),
		right:     desc("right_seconds", "How long the right to serve lasts; +Inf: no end, 0: none."),
		fence:     desc("fence_info", "1 for the level of the fence in force.", "level"),
		watchdog:  desc("watchdog", "1 if a watchdog ends the agent, or the host, when the agent hangs."),
		warning:   desc("warning", "1 if the database wants attention although it does its part: see pair show."),
		lag: desc("lag_bytes", "What readers at this mirror do not see yet of the primary's log. "+
			"Absent while it is not known."),
	}
}

// Describe implements prometheus.Collector.
func (m *statusMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.serving, m.following, m.epoch, m.right, m.fence, m.watchdog, m.warning, m.lag} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *statusMetrics) Collect(ch chan<- prometheus.Metric) {
	snap, now := m.look(), m.clock()
	if snap == nil {
		return
	}
	for _, st := range snap.instances {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{st.name}, labels...)...)
		}
		left, endless := st.right(now)
		right := left.Seconds()
		if endless {
			right = math.Inf(1)
		}
		gauge(m.serving, flag(st.serving(now) && snap.fresh(now)))
		gauge(m.following, flag(st.follows() && snap.fresh(now)))
		gauge(m.epoch, float64(st.status.Epoch))
		gauge(m.right, right)
		gauge(m.fence, 1, st.fence)
		gauge(m.watchdog, flag(st.watchdog))
		gauge(m.warning, flag(st.status.Engine.Warning != ""))
		if lag, known := st.behind(now); known {
			gauge(m.lag, float64(lag))
		}
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
