package service

import (
	"context"
	"time"
)

func now() time.Time { return time.Now() }

func since(t time.Time) time.Duration { return time.Since(t) }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
