package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/witnessd/witnessd/agent/hold"
)

// staleAfter is how old the loop's last word may be before the endpoints stop believing it.
const staleAfter = 2 * time.Second

// snapshot is what the loop last published. Readers compare its instants with the clock themselves, so that a
// stuck loop cannot keep an endpoint at 200 beyond the right.
type snapshot struct {
	at        hold.Instant
	instances []instanceStatus
	troubles  []string
}

type instanceStatus struct {
	name   string
	status hold.Status
	until  hold.Instant // end of the right, if it has one
	fence  string
}

// publish is called by the loop after every event.
func (a *Agent) publish() {
	now := a.clock()
	s := &snapshot{at: now, troubles: a.troubles()}
	for _, i := range a.instances {
		st := instanceStatus{name: i.name, fence: string(i.fence.Level())}
		if i.managed {
			st.status = i.state.Status(now)
			st.until = now.Add(st.status.ServesFor)
		} else {
			st.status.Engine = i.lastSeen
		}
		s.instances = append(s.instances, st)
	}
	a.status.Store(s)
}

// serving is the answer for load balancers at this instant.
func (st instanceStatus) serving(now hold.Instant) bool {
	return st.status.Serving && (st.status.ServesFor < 0 || now < st.until)
}

func (a *Agent) serveHTTP(ctx context.Context) error {
	if a.config.HTTP.Listen == "" {
		return nil
	}
	listener, err := a.opts.Listen(a.config.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w", a.config.HTTP.Listen, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /primary", a.role(func(st instanceStatus, now hold.Instant) bool { return st.serving(now) }))
	mux.HandleFunc("GET /mirror", a.role(func(st instanceStatus, _ hold.Instant) bool {
		return st.status.Managed && !st.status.Primary && st.status.Following
	}))
	mux.HandleFunc("GET /health", a.role(func(st instanceStatus, now hold.Instant) bool {
		return st.serving(now) || st.status.Managed && !st.status.Primary && st.status.Following
	}))
	metrics := promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		a.metrics.publish(a.status.Load(), a.clock())
		metrics.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 2 * time.Second, IdleTimeout: time.Minute}
	a.background.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.report(ctx, "http", err)
		}
	})
	a.background.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
	return nil
}

// role answers 200 or 503 for one instance (?instance=NAME; may be left out if there is only one).
func (a *Agent) role(is func(instanceStatus, hold.Instant) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		snap, now := a.status.Load(), a.clock()
		if snap == nil {
			http.Error(w, "agent is starting", http.StatusServiceUnavailable)
			return
		}
		st, bad := snap.pick(r.URL.Query().Get("instance"))
		if bad != "" {
			http.Error(w, bad, http.StatusNotFound)
			return
		}
		code := http.StatusServiceUnavailable
		if is(st, now) && snap.fresh(now) {
			code = http.StatusOK
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(st.page(now, snap))
	}
}

func (s *snapshot) fresh(now hold.Instant) bool { return now.Sub(s.at) <= staleAfter }

func (s *snapshot) pick(name string) (instanceStatus, string) {
	if name == "" && len(s.instances) == 1 {
		return s.instances[0], ""
	}
	for _, st := range s.instances {
		if st.name == name {
			return st, ""
		}
	}
	return instanceStatus{}, fmt.Sprintf("no instance %q here; ask with ?instance=NAME", name)
}

// page is what the role endpoints show beside their status code.
type page struct {
	Instance  string   `json:"instance"`
	Pair      string   `json:"pair"`
	Epoch     uint64   `json:"epoch"`
	Primary   bool     `json:"recorded_primary"`
	Serving   bool     `json:"serving"`
	Following bool     `json:"following"`
	Right     string   `json:"right"`
	ServesFor string   `json:"serves_for"`
	Role      string   `json:"database_role"`
	Commits   string   `json:"commits"`
	Operation string   `json:"operation"`
	Fence     string   `json:"fence_level"`
	Complaint string   `json:"complaint,omitempty"`
	Troubles  []string `json:"troubles,omitempty"`
	AgeMillis int64    `json:"age_ms"`
}

func (st instanceStatus) page(now hold.Instant, snap *snapshot) page {
	s := st.status
	left := "no end"
	if s.ServesFor >= 0 {
		left = max(0, st.until.Sub(now)).Round(10 * time.Millisecond).String()
	}
	return page{
		Instance: st.name, Pair: s.Name, Epoch: uint64(s.Epoch), Primary: s.Primary, Serving: st.serving(now),
		Following: s.Following, Right: s.Right.String(), ServesFor: left, Role: s.Engine.Role.String(),
		Commits: s.Engine.Commits.String(), Operation: s.Op.String(), Fence: st.fence, Complaint: s.Complaint,
		Troubles: snap.troubles, AgeMillis: now.Sub(snap.at).Milliseconds(),
	}
}

// metrics are what Prometheus scrapes from this agent.
type metrics struct {
	heartbeats prometheus.Counter
	answers    prometheus.Counter
	fences     prometheus.Counter
	roundTrip  prometheus.Histogram
	serving    *prometheus.GaugeVec
	epoch      *prometheus.GaugeVec
	following  *prometheus.GaugeVec
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
		serving: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "witness_agent_serving", Help: "1 if clients may write here as primary."}, []string{"instance"}),
		epoch: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "witness_agent_epoch", Help: "Highest epoch heard."}, []string{"instance"}),
		following: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "witness_agent_following", Help: "1 if the mirror receives changes."}, []string{"instance"}),
	}
	reg.MustRegister(m.heartbeats, m.answers, m.fences, m.roundTrip, m.serving, m.epoch, m.following)
	return m
}

// publish is called by each scrape, and like the endpoints does not believe a stuck loop.
func (m *metrics) publish(s *snapshot, now hold.Instant) {
	if s == nil {
		return
	}
	for _, st := range s.instances {
		m.serving.WithLabelValues(st.name).Set(flag(st.serving(now) && s.fresh(now)))
		m.epoch.WithLabelValues(st.name).Set(float64(st.status.Epoch))
		m.following.WithLabelValues(st.name).Set(flag(st.status.Following))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
