package webhook

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics tell how each webhook does on this node. A node that does not lead calls nobody, and has nothing
// undelivered.
type metrics struct {
	delivered *prometheus.CounterVec
	failed    *prometheus.CounterVec

	mu     sync.Mutex
	oldest map[string]int64 // by webhook: when that happened, in milliseconds, which is being delivered
}

func newMetrics(hooks []Hook, now func() time.Time, registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witnessd_webhook_delivered_total",
			Help: "Messages that a webhook's receiver has taken from this node.",
		}, []string{"webhook"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witnessd_webhook_failed_total",
			Help: "Calls of a webhook by this node that did not deliver; each is repeated.",
		}, []string{"webhook"}),
		oldest: make(map[string]int64),
	}
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	all := []prometheus.Collector{m.delivered, m.failed}
	for _, h := range hooks {
		m.delivered.WithLabelValues(h.Name) // a rate over a series that appears with its first count misses that count
		m.failed.WithLabelValues(h.Name)
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "witnessd_webhook_oldest_undelivered_seconds",
			Help:        "Age of the oldest event that a webhook's receiver has not taken yet; 0: there is none.",
			ConstLabels: prometheus.Labels{"webhook": h.Name},
		}, func() float64 { return m.age(h.Name, now()) }))
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) waits(webhook string, at int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oldest[webhook] = at
}

func (m *metrics) idle(webhook string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.oldest, webhook)
}

func (m *metrics) age(webhook string, now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, waits := m.oldest[webhook]
	if !waits {
		return 0
	}
	return max(0, now.Sub(time.UnixMilli(at)).Seconds())
}
