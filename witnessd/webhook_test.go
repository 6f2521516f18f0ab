package witnessd_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd"
)

// receiver takes every message, and keeps the event in it.
type receiver struct {
	mu   sync.Mutex
	down bool
	got  []map[string]any
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	status := http.StatusServiceUnavailable
	if !r.down {
		var m struct{ Data map[string]any }
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		r.got = append(r.got, m.Data)
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
}

func (r *receiver) set(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// once are the events in the order in which each came first.
func (r *receiver) once() []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []map[string]any
	highest := uint64(0)
	for _, e := range r.got {
		if n, _ := strconv.ParseUint(e["sequence"].(string), 10, 64); n > highest {
			highest = n
			all = append(all, e)
		}
	}
	return all
}

func (r *receiver) heard(kind string) bool {
	return slices.ContainsFunc(r.once(), func(e map[string]any) bool { return e["kind"] == kind })
}

func pager(t *testing.T) []witnessd.Webhook {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return []witnessd.Webhook{{Name: "pager", URL: "https://pager.example", SecretFile: secret, Timeout: time.Second}}
}

// TestWebhooksOverLeaders: a receiver gets the whole history once its webhook has begun, in order, through a change
// of leader, an outage of its own and a start of all nodes; each event is what the API says it is.
func TestWebhooksOverLeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := &receiver{}
		w := newWorldWith(t, pager(t), r, "n1", "n2", "n3")
		leader := w.leader()
		time.Sleep(5 * time.Second) // every node is asked what it reads, and the webhook begins
		w.createSales(leader)
		w.host("a", w.ids...)
		w.host("b", w.ids...)
		w.untilArmed()
		w.until("the receiver has heard of it", 5*time.Second, func() bool { return r.heard("ARMED") })
		first := r.once()[0]

		w.stop(leader)
		next := w.leader()
		switchOver := func(to string) {
			t.Helper()
			w.untilArmed() // a new leader has to hear both agents first
			_, err := w.admin(next).Switchover(t.Context(), &witnessv1.SwitchoverRequest{Pair: "sales", Target: to, By: "ann"})
			if err != nil {
				t.Fatal(err)
			}
		}
		switchOver("b")
		w.until("the next leader tells it", 20*time.Second, func() bool { return r.heard("PROCEDURE_DONE") })

		r.set(true)
		switchOver("a")
		time.Sleep(5 * time.Second)
		for id := range w.nodes {
			w.stop(id)
		}
		for _, id := range w.ids {
			w.run(id, w.config(id))
		}
		r.set(false)
		next = w.leader()
		w.untilArmed()
		time.Sleep(2 * time.Minute)

		h, err := w.admin(next).ListEvents(t.Context(), &witnessv1.ListEventsRequest{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		got := r.once()
		if first["kind"] != "CREATED" || len(got) != len(h.GetEvents()) {
			t.Fatalf("%d events, the first is %v; the history has %d", len(got), first, len(h.GetEvents()))
		}
		for i, e := range h.GetEvents() {
			raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got[i], want) {
				t.Errorf("event %d is delivered as\n%v\nand by the API\n%v", e.GetSequence(), got[i], want)
			}
		}
	})
}

// TestWebhooksWaitForEveryNode: nothing new is in the log before every node has said that it reads it. A node that is
// away is as good as one of an older release.
func TestWebhooksWaitForEveryNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := &receiver{}
		w := newWorldWith(t, pager(t), r, "n1", "n2", "n3")
		w.net.Isolate("n3")
		leader := w.leader()
		time.Sleep(30 * time.Second)
		w.createSales(leader)
		time.Sleep(30 * time.Second)
		if got := r.once(); len(got) > 0 {
			t.Fatalf("delivered %v while a node could not be asked", got)
		}
		w.net.Rejoin("n3")
		time.Sleep(5 * time.Second)
		w.createPair(w.leader(), "stock", "c", "d")
		w.until("what happens from then on is delivered", time.Second, func() bool {
			all := r.once()
			return len(all) == 1 && all[0]["pair_name"] == "stock"
		})
	})
}
