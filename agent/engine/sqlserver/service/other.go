//go:build !linux && !windows

package service

import (
	"errors"
	"fmt"
	"log/slog"
)

func open(Config, *slog.Logger) (Service, error) {
	return nil, fmt.Errorf("SQL Server runs on Linux and Windows: %w", errors.ErrUnsupported)
}
