//go:build !linux

package postgres

import (
	"log/slog"

	"github.com/witnessd/witnessd/agent/engine"
)

// NewExaminer refuses.
func NewExaminer(Config, *slog.Logger) (engine.Examiner, error) { return nil, errLinuxOnly }
