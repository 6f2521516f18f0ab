package witnessd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore/raftstoretest"
	"github.com/witnessd/witnessd/witnessd"
)

// TestMetricsAndHealth reads the HTTP endpoints of a node that leads itself, over a real socket.
func TestMetricsAndHealth(t *testing.T) {
	network := raftstoretest.NewNetwork()
	stream, err := network.Host("n1").Stream(7400)
	if err != nil {
		t.Fatal(err)
	}
	api, err := network.Host("n1").Listen(7401)
	if err != nil {
		t.Fatal(err)
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := witnessd.DefaultConfig()
	c.Node, c.Nodes = "n1", []witnessd.NodeConfig{{ID: "n1", Raft: "n1:7400", API: "n1:7401"}}
	c.Raft.Advertise, c.API.Advertise = "n1:7400", "n1:7401"
	n, err := witnessd.New(c, witnessd.Options{
		Stream: stream, API: api, HTTP: web, DialAPI: network.Host("n1").Dial,
		Stores: raftstoretest.NewDisk().Stores(), Log: testLog("n1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get(fmt.Sprintf("http://%s%s", web.Addr(), path))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	if code, body := get("/healthz"); code != http.StatusServiceUnavailable && code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	ready := false
	for start := time.Now(); !ready && time.Since(start) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		code, _ := get("/healthz")
		ready = code == http.StatusOK
	}
	if !ready {
		t.Fatal("the node did not become ready within 10 s")
	}
	_, body := get("/metrics")
	for _, line := range []string{
		"witnessd_leader 1", "witnessd_term ", "witnessd_applied_index ", "witnessd_sessions 0",
		`witnessd_pairs{state="armed"} 0`, `witnessd_heartbeats_total{result="dropped"} 0`,
		`witnessd_proposals_total{outcome="unknown"} 0`, "witnessd_answer_seconds_count 0",
		`witnessd_facts_total{kind="PROMOTED"} 0`,
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("/metrics has no %q", line)
		}
	}
}
