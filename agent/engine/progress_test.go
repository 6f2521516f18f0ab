package engine_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		p    engine.Progress
		want string
	}{
		{engine.Progress{Step: "keep-aside"}, "keep-aside"},
		{engine.Progress{Step: "clone", Detail: "waits for a checkpoint"}, "clone (waits for a checkpoint)"},
		{engine.Progress{Step: "clone", Done: 1170e6, Total: 2600e6, Rate: 110e6, Left: 13 * time.Second},
			"clone 45 % (1.2 of 2.6 GB, 110 MB/s, 13 s left)"},
		{engine.Progress{Step: "rewind", Done: 300e6, Total: 2600e6}, "rewind 11 % (0.3 of 2.6 GB)"},
		{engine.Progress{Step: "clone", Done: 5, Total: 50e9, Rate: 9e6, Left: 93 * time.Minute},
			"clone 0 % (0 of 50 GB, 9.0 MB/s, 1.6 h left)"},
		{engine.Progress{Step: "catch-up", Done: 1280e6, Total: 1600e6, Rate: 30e6, Left: 11 * time.Second},
			"catch-up 80 % (320 MB behind, 30 MB/s, 11 s left)"},
		{engine.Progress{Step: "catch-up", Done: 1, Total: 1e6, Rate: 30, Left: -1, Detail: "until it is consistent"},
			"catch-up 0 % (1000 kB behind, 30 B/s, what is left does not become less, until it is consistent)"},
		// An estimate that was too low must not show more than there is.
		{engine.Progress{Step: "clone", Done: 3e6, Total: 2e6, Left: 90 * time.Second}, "clone 100 % (2.0 of 2.0 MB, 2 min left)"},
	} {
		if got := test.p.String(); got != test.want {
			t.Errorf("%+v:\n got %s\nwant %s", test.p, got, test.want)
		}
	}
}
