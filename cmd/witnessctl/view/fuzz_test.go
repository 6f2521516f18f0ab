package view_test

import (
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// FuzzDuration prints any length: in a few characters, whatever an agent or a newer witness says.
func FuzzDuration(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, 10 * time.Second, time.Hour, 48 * time.Hour, math.MaxInt64, math.MinInt64} {
		f.Add(int64(d))
	}
	f.Fuzz(func(t *testing.T, d int64) {
		if s := view.Duration(time.Duration(d)); s == "" || len(s) > 12 || (s[0] == '-') != (d < 0) {
			t.Fatalf("%d is printed as %q", d, s)
		}
	})
}

// FuzzProcedure puts any procedure into words; values of a newer witness have some, too.
func FuzzProcedure(f *testing.F) {
	for _, p := range []*witnessv1.Procedure{
		{Id: "p", Kind: 2, Step: 1, Target: "b"}, {}, {Kind: 99, Step: 99}, {Kind: -1, Step: -1},
	} {
		body, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := &witnessv1.Procedure{}
		if proto.Unmarshal(body, p) == nil && view.Kind(p.GetKind()) == "" {
			t.Fatalf("%v has no word", p.GetKind())
		}
	})
}
