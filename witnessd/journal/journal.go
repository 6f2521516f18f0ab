// Package journal tells people what happened to the pairs: each [pair.Fact] becomes one line of the log and
// one count of witnessd_facts_total, with the same kind and the same text as in the history that clients read.
//
// It keeps nothing and decides nothing; the history itself is in package ledger. Every node could record
// every fact, since every node applies every command: whoever wants one line per fact, not one per node,
// records on the leader only.
package journal

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Journal records facts. Any number of goroutines may share one.
type Journal struct {
	log    *slog.Logger
	levels map[pair.FactKind]slog.Level
	facts  *prometheus.CounterVec
}

// New returns a journal that writes to a log and counts in a registry. Every known kind is there from the
// start with a count of 0, because a rate over a series that appears with its first count misses that count.
func New(log *slog.Logger, registry prometheus.Registerer) (*Journal, error) {
	j := &Journal{
		log: log, levels: levels(),
		facts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "witnessd_facts_total",
			Help: "What happened to pairs, by kind, as recorded by this node.",
		}, []string{"kind"}),
	}
	if err := registry.Register(j.facts); err != nil {
		return nil, err
	}
	for kind := range j.levels {
		j.facts.WithLabelValues(string(kind))
	}
	return j, nil
}

// Record writes one fact down.
func (j *Journal) Record(ctx context.Context, f pair.Fact) {
	j.facts.WithLabelValues(string(f.Kind)).Inc()
	attrs := []slog.Attr{
		slog.String("pair", f.PairName),
		slog.Uint64("epoch", uint64(f.Epoch)),
		slog.String("revision", f.Revision.String()),
		slog.String("kind", string(f.Kind)),
		slog.String("cause", f.Cause),
	}
	for _, optional := range []struct{ key, value string }{
		{"host", string(f.Host)}, {"procedure", f.Procedure}, {"by", f.By},
	} {
		if optional.value != "" {
			attrs = append(attrs, slog.String(optional.key, optional.value))
		}
	}
	j.log.LogAttrs(ctx, j.level(f), "pair event", attrs...)
}

// level goes by outcome. What an operator asked for needs no second look.
func (j *Journal) level(f pair.Fact) slog.Level {
	level, known := j.levels[f.Kind]
	if !known {
		return slog.LevelWarn
	}
	if level == slog.LevelWarn && f.By != "" {
		return slog.LevelInfo
	}
	return level
}

// levels lists every kind: ERROR did not happen, WARN happened but look, INFO a person may care.
func levels() map[pair.FactKind]slog.Level {
	return map[pair.FactKind]slog.Level{
		pair.FactCreated:            slog.LevelInfo,
		pair.FactAnnounced:          slog.LevelInfo,
		pair.FactFormed:             slog.LevelInfo,
		pair.FactArmed:              slog.LevelInfo,
		pair.FactExposed:            slog.LevelWarn,
		pair.FactPromoted:           slog.LevelWarn,
		pair.FactReinstated:         slog.LevelWarn,
		pair.FactModeChanged:        slog.LevelInfo,
		pair.FactPolicyChanged:      slog.LevelInfo,
		pair.FactLongestLowered:     slog.LevelInfo,
		pair.FactProcedureStarted:   slog.LevelInfo,
		pair.FactProcedureStepped:   slog.LevelInfo,
		pair.FactProcedureDone:      slog.LevelInfo,
		pair.FactProcedureFailed:    slog.LevelError,
		pair.FactMirrorReplaced:     slog.LevelInfo,
		pair.FactRemoved:            slog.LevelInfo,
		pair.FactRestored:           slog.LevelWarn,
		pair.FactAdopted:            slog.LevelWarn,
		pair.FactWouldFailOver:      slog.LevelWarn,
		pair.FactDecisionsSuspended: slog.LevelWarn,
		pair.FactHookDone:           slog.LevelInfo,
		pair.FactHookFailed:         slog.LevelError,
		pair.FactRescued:            slog.LevelWarn,
		pair.FactRescueFailed:       slog.LevelError,
	}
}
