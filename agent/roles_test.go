package agent

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// board is the role endpoints over a status that the test changes.
type board struct {
	now  hold.Instant
	snap *snapshot
}

func newBoard(instances ...instanceStatus) *board {
	now := hold.Instant(time.Hour)
	return &board{now: now, snap: &snapshot{at: now, instances: instances}}
}

func (b *board) handler() http.Handler {
	mux := http.NewServeMux()
	roles{clock: func() hold.Instant { return b.now }, look: func() *snapshot { return b.snap }}.register(mux)
	return unstored(mux)
}

func (b *board) ask(method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func (b *board) code(path string) int { return b.ask(http.MethodGet, path).Code }

// servingStatus is a primary's, with a right that lasts for left.
func servingStatus(left time.Duration) instanceStatus {
	return instanceStatus{
		name: "main", until: hold.Instant(time.Hour).Add(left), lease: 3 * time.Second, fence: "kernel",
		status: hold.Status{Name: "payroll", Managed: true, Epoch: 4, Primary: true, Serving: true, ServesFor: left,
			Right: hold.RightLeased, Engine: hold.Engine{Running: true, Role: hold.RolePrimary, Timeline: 3}},
	}
}

// followingStatus is a mirror's that has replayed all but lag bytes of what the partner said just now.
func followingStatus(lag uint64) instanceStatus {
	return instanceStatus{
		name: "main", lease: 3 * time.Second, fence: "kernel", peerAt: hold.Instant(time.Hour),
		peer: hold.Engine{Running: true, Role: hold.RolePrimary, Timeline: 3, Position: 5 << 20},
		status: hold.Status{Name: "payroll", Managed: true, Epoch: 4, Following: true, Engine: hold.Engine{
			Running: true, Role: hold.RoleMirror, Timeline: 3, Position: 5 << 20, Replayed: 5<<20 - lag,
			Following: true, Promotable: true}},
	}
}

func TestRoleEndpoints(t *testing.T) {
	change := func(st instanceStatus, change func(st *instanceStatus)) instanceStatus {
		change(&st)
		return st
	}
	primary, mirror := servingStatus(time.Second), followingStatus(1000)
	tests := []struct {
		name string
		st   instanceStatus
		yes  string // the endpoints that say 200
	}{
		{"primary", primary, "primary health readiness readiness?lag=1kB"},
		{"primary without an end", servingStatus(-1), "primary health readiness readiness?lag=1kB"},
		{"a switchover's release has begun", change(primary, func(st *instanceStatus) { st.status.HandingOver = true }), ""},
		{"a fence is on its way", change(primary, func(st *instanceStatus) { st.ending = true }), ""},
		{"a fence is on its way, sole", change(servingStatus(-1), func(st *instanceStatus) { st.ending = true }), ""},
		{"a right, and no database", change(primary, func(st *instanceStatus) { st.status.Serving = false }), ""},
		{"a database, and no right", change(primary, func(st *instanceStatus) { st.until = 0 }), ""},
		{"mirror", mirror, "mirror replica replica?lag=1kB health readiness readiness?lag=1kB"},
		{"mirror that cannot be promoted", change(mirror, func(st *instanceStatus) { st.status.Engine.Promotable = false }),
			"mirror replica replica?lag=1kB health"},
		{"mirror that lags", followingStatus(1001), "mirror replica health readiness"},
		{"mirror that has more than was told", change(mirror, func(st *instanceStatus) { st.peer.Position = 7 }),
			"mirror replica replica?lag=1kB health readiness readiness?lag=1kB"},
		{"the partner has said nothing", change(mirror, func(st *instanceStatus) { st.peerAt = 0 }),
			"mirror replica health readiness"},
		{"another history", change(mirror, func(st *instanceStatus) { st.peer.Timeline++ }), "mirror replica health readiness"},
		{"the partner is no primary", change(mirror, func(st *instanceStatus) { st.peer.Role = hold.RoleMirror }),
			"mirror replica health readiness"},
		{"mirror without its primary", change(mirror, func(st *instanceStatus) { st.status.Following = false }), ""},
		{"told to serve, still a copy", change(mirror, func(st *instanceStatus) { st.status.Primary = true }), ""},
		{"in no pair", instanceStatus{name: "main", status: hold.Status{Engine: mirror.status.Engine}}, ""},
	}
	all := []string{"primary", "mirror", "replica", "replica?lag=1kB", "health", "readiness", "readiness?lag=1kB"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(tt.st)
			var yes []string
			for _, path := range all {
				switch code := b.code("/" + path); code {
				case http.StatusOK:
					yes = append(yes, path)
				case http.StatusServiceUnavailable:
				default:
					t.Errorf("/%s: %d", path, code)
				}
			}
			if got := strings.Join(yes, " "); got != tt.yes {
				t.Errorf("200 from %q, want %q", got, tt.yes)
			}
		})
	}
}

// TestEndpointsDoNotOutliveTheRight: what is published says 200 and 1 no longer than the right lasts, and not for
// long after the loop stopped.
func TestEndpointsDoNotOutliveTheRight(t *testing.T) {
	const ok, no = http.StatusOK, http.StatusServiceUnavailable
	for _, c := range []struct {
		serves, later time.Duration
		want, alive   int
	}{
		{time.Second, time.Second - 1, ok, ok},
		{time.Second, time.Second, no, ok},
		{-1, staleAfter, ok, ok},
		{-1, staleAfter + 1, no, no},
	} {
		b := newBoard(servingStatus(c.serves))
		b.now = b.now.Add(c.later)
		if got := b.code("/primary"); got != c.want {
			t.Errorf("right of %v, %v later: %d, want %d", c.serves, c.later, got, c.want)
		}
		if got := b.code("/liveness"); got != c.alive {
			t.Errorf("liveness %v later: %d, want %d", c.later, got, c.alive)
		}
		want := map[bool]float64{true: 1}[c.want == ok]
		if got := b.gauge(t, "witness_agent_serving"); got != want {
			t.Errorf("right of %v, %v later: serving %v, want %v", c.serves, c.later, got, want)
		}
	}
	mirror := newBoard(followingStatus(0))
	mirror.now = mirror.now.Add(staleAfter + 1)
	if got := mirror.code("/mirror"); got != no {
		t.Errorf("mirror of a stuck loop: %d", got)
	}
}

// TestLagOfAnOldWord: the partner's word counts for two leases, and for a fixed time while no policy is known.
func TestLagOfAnOldWord(t *testing.T) {
	for _, c := range []struct{ lease, fresh time.Duration }{{time.Second, 2 * time.Second}, {0, unknownLease}} {
		st := followingStatus(10)
		st.lease = c.lease
		if _, known := st.behind(st.peerAt.Add(c.fresh)); !known {
			t.Errorf("lease %v: not known after %v", c.lease, c.fresh)
		}
		if _, known := st.behind(st.peerAt.Add(c.fresh + 1)); known {
			t.Errorf("lease %v: known after more than %v", c.lease, c.fresh)
		}
	}
}

func TestLagLimits(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "1048576": 1 << 20, "1MB": 1e6, "16MiB": 16 << 20, "3kb": 3000, "7B": 7, "1gib": 1 << 30, "2TB": 2e12,
		"18446744073709551615": math.MaxUint64, "16777215TiB": 16777215 << 40,
	} {
		if got, err := parseLag(s); err != nil || got != (lagLimit{bytes: want, set: true}) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	bad := []string{"", "MB", "-1", "+1", "1.5MB", "1 MB", "1MBit", "16777216TiB", "18446744073709551616", "0x10", "1_000",
		strings.Repeat("9", 1000), "9999999999999999999999999999", "١MB"}
	for _, s := range bad {
		if got, err := parseLag(s); err == nil {
			t.Errorf("%q is taken as %+v", s, got)
		}
	}
	b := newBoard(followingStatus(0))
	w := b.ask(http.MethodGet, "/replica?lag=much")
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `lag ("much") must be bytes`) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if got := b.code("/mirror?lag=much"); got != http.StatusOK {
		t.Errorf("/mirror takes no lag, and says %d", got)
	}
}

// TestWaysToAsk: methods, names of instances, and what is not there.
func TestWaysToAsk(t *testing.T) {
	second := followingStatus(7)
	second.name = "other"
	one, two := newBoard(servingStatus(time.Second)), newBoard(servingStatus(time.Second), second)
	starting := newBoard()
	starting.snap = nil
	tests := []struct {
		board        *board
		method, path string
		want         int
	}{
		{one, "GET", "/primary", 200}, {one, "HEAD", "/primary", 200}, {one, "OPTIONS", "/primary", 200},
		{one, "OPTIONS", "/mirror", 503}, {one, "POST", "/primary", 405}, {one, "GET", "/leader", 404},
		{one, "GET", "/primary?instance=main", 200}, {one, "GET", "/main/primary", 200},
		{one, "OPTIONS", "/main/primary", 200}, {one, "GET", "/other/primary", 404},
		{one, "GET", "/primary?instance=other", 404},
		{two, "GET", "/primary", 404}, {two, "GET", "/main/primary", 200}, {two, "GET", "/other/primary", 503},
		{two, "GET", "/other/replica?lag=7", 200}, {two, "GET", "/other/replica?lag=6", 503},
		{two, "GET", "/liveness", 200}, {two, "OPTIONS", "/liveness", 200},
		{starting, "GET", "/primary", 503}, {starting, "GET", "/liveness", 503}, {starting, "OPTIONS", "/primary", 503},
	}
	for _, tt := range tests {
		w := tt.board.ask(tt.method, tt.path)
		if w.Code != tt.want || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d, %v, want %d", tt.method, tt.path, w.Code, w.Header(), tt.want)
		}
		if tt.method == http.MethodOptions && w.Body.Len() > 0 && tt.want != 503 {
			t.Errorf("%s %s has a body", tt.method, tt.path)
		}
	}
	if body := two.ask("GET", "/primary").Body.String(); !strings.Contains(body, "main, other") {
		t.Errorf("who does not name the instance is told %q", body)
	}
}

func TestPage(t *testing.T) {
	st := followingStatus(12)
	st.fence, st.fenceNote, st.watchdog, st.gate = "gate", "nftables is not permitted", true, ":6432"
	var got map[string]any
	if err := json.Unmarshal(newBoard(st).ask("GET", "/mirror").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"instance": "main", "pair": "payroll", "epoch": 4.0, "serving": false, "following": true, "lag_bytes": 12.0,
		"fence_level": "gate", "fence_note": "nftables is not permitted", "watchdog": true, "gate": ":6432",
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
	st.peerAt = 0
	if body := newBoard(st).ask("GET", "/mirror").Body.String(); strings.Contains(body, "lag_bytes") {
		t.Errorf("a lag that nobody knows: %s", body)
	}
}

// metric is what a scrape shows of the only instance: NaN and nothing if it is not there.
func (b *board) metric(t *testing.T, name string) (value float64, text string) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newStatusMetrics(func() hold.Instant { return b.now }, func() *snapshot { return b.snap }))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue(), f.GetMetric()[0].String()
		}
	}
	return math.NaN(), ""
}

func (b *board) gauge(t *testing.T, name string) float64 {
	t.Helper()
	value, _ := b.metric(t, name)
	return value
}

func TestStatusMetrics(t *testing.T) {
	if got := newBoard(servingStatus(2500*time.Millisecond)).gauge(t, "witness_agent_right_seconds"); got != 2.5 {
		t.Errorf("right %v", got)
	}
	if got := newBoard(servingStatus(-1)).gauge(t, "witness_agent_right_seconds"); !math.IsInf(got, 1) {
		t.Errorf("right without an end %v", got)
	}
	mirror := newBoard(followingStatus(99))
	if got := mirror.gauge(t, "witness_agent_lag_bytes"); got != 99 {
		t.Errorf("lag %v", got)
	}
	mirror.now = mirror.now.Add(time.Minute)
	if got := mirror.gauge(t, "witness_agent_lag_bytes"); !math.IsNaN(got) {
		t.Errorf("a lag that nobody knows: %v", got)
	}
	if one, got := mirror.metric(t, "witness_agent_fence_info"); one != 1 || !strings.Contains(got, `"kernel"`) {
		t.Errorf("fence level %v", got)
	}
}

// TestEndingIsToldAtOnce: between the loop's decision and the next thing it publishes nobody is sent here, and the
// other instance is not concerned.
func TestEndingIsToldAtOnce(t *testing.T) {
	now := hold.Instant(time.Hour)
	a := &Agent{}
	a.ending("main") // nothing was published yet
	second := servingStatus(-1)
	second.name = "other"
	before := &snapshot{at: now, instances: []instanceStatus{servingStatus(-1), second}}
	a.status.Store(before)
	a.ending("main")
	after := a.status.Load()
	if after.instances[0].serving(now) || !after.instances[1].serving(now) || after.at != now {
		t.Errorf("after: %+v", after)
	}
	if !before.instances[0].serving(now) {
		t.Error("what readers may hold was changed")
	}
}

func TestStatusLine(t *testing.T) {
	lone, mirror := instanceStatus{name: "spare"}, followingStatus(0)
	waiting, cut := servingStatus(0), followingStatus(0)
	waiting.status.Serving = false
	cut.status.Following = false
	s := snapshot{instances: []instanceStatus{servingStatus(2400 * time.Millisecond), servingStatus(-1), mirror, waiting, cut,
		lone}}
	want := "payroll: primary, serves for 2.4 s, fence kernel; payroll: primary, serves without end, fence kernel; " +
		"payroll: mirror, follows; payroll: recorded as primary, does not serve; payroll: mirror, does not follow; " +
		"instance spare: in no pair"
	if got := s.line(hold.Instant(time.Hour)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEndpointsOfAnAgent asks a whole agent: as primary, handing over, and as a stopped process's database.
func TestEndpointsOfAnAgent(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		code := func(path string) int {
			rec := httptest.NewRecorder()
			mux := http.NewServeMux()
			roles{clock: h.agent.clock, look: h.agent.status.Load}.register(mux)
			mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
			return rec.Code
		}
		if got := fmt.Sprint(code("/primary"), code("/mirror"), code("/health"), code("/liveness")); got != "200 503 200 200" {
			t.Errorf("primary: %s", got)
		}
		handingOver := make(chan struct{})
		h.db.onHandOver = func() { <-handingOver }
		w.set(func() {
			w.procedure = &witnessv1.Procedure{Kind: witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER,
				Step: witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE, Epoch: 1}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if h.db.role() != engine.RolePrimary || code("/primary") != http.StatusServiceUnavailable {
			t.Errorf("handing over: database %v, /primary %d", h.db.role(), code("/primary"))
		}
		close(handingOver)
		h.stop()
	})
}

// TestHTTPServer asks over a socket, as HAProxy does: HTTP/1.0, OPTIONS.
func TestHTTPServer(t *testing.T) {
	b := newBoard(servingStatus(-1))
	server := httptest.NewServer(b.handler())
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprint(conn, "OPTIONS /primary HTTP/1.0\r\n\r\n")
	buf := make([]byte, 4096)
	n, _ := conn.Read(buf)
	if got := string(buf[:n]); !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("answered %q", got)
	}
}
