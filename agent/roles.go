package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/witnessd/witnessd/agent/hold"
)

// The role endpoints answer load balancers with 200 or 503. An answer is made at the instant of the question from
// the right and from what the loop last published, so it is never kept at 200 by an agent that hangs.

// serving says whether clients may write here: the right lasts, the database is up as primary of the epoch, and
// nothing has begun that ends this.
func (st instanceStatus) serving(now hold.Instant) bool {
	left, endless := st.right(now)
	return st.status.Serving && !st.status.HandingOver && !st.ending && (endless || left > 0)
}

// follows says whether the database is a mirror that receives its primary's changes.
func (st instanceStatus) follows() bool {
	s := st.status
	return s.Managed && !s.Primary && s.Following && s.Engine.Running && s.Engine.Role == hold.RoleMirror
}

// question is one role endpoint: 200 if is.
type question struct {
	path string
	lag  bool // ?lag= is understood
	is   func(st instanceStatus, now hold.Instant, limit lagLimit) bool
}

func questions() []question {
	replica := func(st instanceStatus, now hold.Instant, limit lagLimit) bool {
		return st.follows() && limit.holds(st.behind(now))
	}
	return []question{
		{path: "primary", is: func(st instanceStatus, now hold.Instant, _ lagLimit) bool { return st.serving(now) }},
		{path: "mirror", is: func(st instanceStatus, _ hold.Instant, _ lagLimit) bool { return st.follows() }},
		{path: "replica", lag: true, is: replica},
		{path: "health", is: func(st instanceStatus, now hold.Instant, _ lagLimit) bool {
			return st.serving(now) || st.follows()
		}},
		{path: "readiness", lag: true, is: func(st instanceStatus, now hold.Instant, limit lagLimit) bool {
			return st.serving(now) || replica(st, now, limit) && st.status.Engine.Promotable
		}},
	}
}

// roles are the role endpoints over what look returns; nil while nothing was published yet.
type roles struct {
	clock Clock
	look  func() *snapshot
}

// register adds each endpoint for the only instance or ?instance=NAME, and as /NAME/primary for load balancers that
// can ask for a path only.
func (r roles) register(mux *http.ServeMux) {
	for _, method := range []string{http.MethodGet, http.MethodOptions} { // GET means HEAD too
		for _, q := range questions() {
			mux.HandleFunc(method+" /"+q.path, r.answer(q))
			mux.HandleFunc(method+" /{instance}/"+q.path, r.answer(q))
		}
		mux.HandleFunc(method+" /liveness", r.liveness)
	}
}

func (r roles) answer(q question) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		snap, now := r.look(), r.clock()
		if snap == nil {
			http.Error(w, "agent is starting", http.StatusServiceUnavailable)
			return
		}
		name := req.PathValue("instance")
		if name == "" {
			name = req.URL.Query().Get("instance")
		}
		st, bad := snap.pick(name)
		if bad != "" {
			http.Error(w, bad, http.StatusNotFound)
			return
		}
		var limit lagLimit
		if lag, given := req.URL.Query()["lag"]; given && q.lag {
			var err error
			if limit, err = parseLag(lag[0]); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		reply(w, req, q.is(st, now, limit) && snap.fresh(now), st.page(now, snap))
	}
}

// liveness is for supervisors of the agent itself: does its loop turn?
func (r roles) liveness(w http.ResponseWriter, req *http.Request) {
	snap, now := r.look(), r.clock()
	if snap == nil {
		http.Error(w, "agent is starting", http.StatusServiceUnavailable)
		return
	}
	reply(w, req, snap.fresh(now), struct {
		AgeMillis int64    `json:"age_ms"`
		Troubles  []string `json:"troubles,omitempty"`
	}{now.Sub(snap.at).Milliseconds(), snap.troubles})
}

func reply(w http.ResponseWriter, req *http.Request, yes bool, body any) {
	code := http.StatusServiceUnavailable
	if yes {
		code = http.StatusOK
	}
	if req.Method == http.MethodOptions {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// page is what the role endpoints show beside their status code.
type page struct {
	Instance    string   `json:"instance"`
	Pair        string   `json:"pair"`
	Epoch       uint64   `json:"epoch"`
	Primary     bool     `json:"recorded_primary"`
	Serving     bool     `json:"serving"`
	HandingOver bool     `json:"handing_over"`
	Following   bool     `json:"following"`
	Promotable  bool     `json:"promotable"`
	Right       string   `json:"right"`
	ServesFor   string   `json:"serves_for"`
	Role        string   `json:"database_role"`
	Commits     string   `json:"commits"`
	Operation   string   `json:"operation"`
	Lag         *uint64  `json:"lag_bytes,omitempty"` // absent: not known, or no mirror
	Gate        string   `json:"gate,omitempty"`
	Fence       string   `json:"fence_level"`
	FenceNote   string   `json:"fence_note,omitempty"`
	Watchdog    bool     `json:"watchdog"`
	Complaint   string   `json:"complaint,omitempty"`
	Troubles    []string `json:"troubles,omitempty"`
	AgeMillis   int64    `json:"age_ms"`
}

func (st instanceStatus) page(now hold.Instant, snap *snapshot) page {
	s := st.status
	lasts := "no end"
	if left, endless := st.right(now); !endless {
		lasts = left.Round(10 * time.Millisecond).String()
	}
	p := page{
		Instance: st.name, Pair: s.Name, Epoch: uint64(s.Epoch), Primary: s.Primary, Serving: st.serving(now),
		HandingOver: s.HandingOver, Following: s.Following, Promotable: s.Engine.Promotable, Right: s.Right.String(),
		ServesFor: lasts, Role: s.Engine.Role.String(), Commits: s.Engine.Commits.String(), Operation: s.Op.String(),
		Gate: st.gate, Fence: st.fence, FenceNote: st.fenceNote, Watchdog: st.watchdog, Complaint: s.Complaint,
		Troubles: snap.troubles, AgeMillis: now.Sub(snap.at).Milliseconds(),
	}
	if lag, known := st.behind(now); known {
		p.Lag = &lag
	}
	return p
}

// Shown is what RoleEndpoints shows of one instance.
type Shown struct {
	hold.Status
	Partner hold.Engine // what the partner's agent has just said of its database
}

// RoleEndpoints are an agent's role endpoints over statuses that somebody else keeps, by instance: what a test of a
// load balancer's configuration needs. look is called for each question.
func RoleEndpoints(clock Clock, look func() map[string]Shown) http.Handler {
	mux := http.NewServeMux()
	roles{clock: clock, look: func() *snapshot {
		s := &snapshot{at: clock()}
		for name, shown := range look() {
			s.instances = append(s.instances, instanceStatus{
				name: name, status: shown.Status, until: s.at.Add(shown.ServesFor), peer: shown.Partner, peerAt: s.at,
			})
		}
		return s
	}}.register(mux)
	return unstored(mux)
}

// unstored keeps caches on the way from answering in the agent's place.
func unstored(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// Limits of the HTTP server. Its answers are small, and nobody may keep its connections busy for long.
const (
	httpRead    = 2 * time.Second
	httpWrite   = 10 * time.Second
	httpIdle    = time.Minute
	httpHeaders = 16 << 10
)

func (a *Agent) serveHTTP(ctx context.Context) error {
	if a.config.HTTP.Listen == "" {
		return nil
	}
	listener, err := a.opts.Listen(a.config.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w", a.config.HTTP.Listen, err)
	}
	a.reg.MustRegister(newStatusMetrics(a.clock, a.status.Load))
	a.reg.MustRegister(counters(a.watchdog.Failures, a.hooks.Dropped, a.kernelStats)...)
	mux := http.NewServeMux()
	roles{clock: a.clock, look: a.status.Load}.register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{}))
	server := &http.Server{
		Handler: unstored(mux), ReadTimeout: httpRead, WriteTimeout: httpWrite, IdleTimeout: httpIdle,
		MaxHeaderBytes: httpHeaders,
	}
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
