package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/witnessd/witnessd/witnessd/ledger"
)

// levelService is the name under which a node's health service says that the node reads a level of the log. A node
// of an older release says that it knows no such service.
func levelService(level uint32) string { return fmt.Sprintf("witnesslog.v1.level.%d", level) }

// reportLevels says what this node reads; that never changes while it runs.
func (s *Server) reportLevels() {
	for level := uint32(1); level <= ledger.Level; level++ {
		s.health.SetServingStatus(levelService(level), healthv1.HealthCheckResponse_SERVING)
	}
}

// NotReading names the other members of the log that have not said, just now, that they read a level of it: those
// that do not know it, and those that do not answer.
func (s *Server) NotReading(ctx context.Context, level uint32) []string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var mu sync.Mutex
	var silent []string
	var asked sync.WaitGroup
	for _, m := range s.group.Status().Members {
		if m.ID == s.node {
			continue
		}
		asked.Go(func() {
			if s.readsLevel(ctx, m.ID, level) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			silent = append(silent, m.ID)
		})
	}
	asked.Wait()
	slices.Sort(silent)
	return silent
}

func (s *Server) readsLevel(ctx context.Context, node string, level uint32) bool {
	conn, err := s.peers.ready(ctx, node)
	if err != nil {
		return false
	}
	said, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: levelService(level)})
	return err == nil && said.GetStatus() == healthv1.HealthCheckResponse_SERVING
}
