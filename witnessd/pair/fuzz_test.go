package pair_test

import (
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Whatever bytes make a command out of, Apply neither panics nor lowers what may only rise.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, input []byte) {
		r := leased()
		for i := 0; i+1 < len(input); i += 2 {
			c := pair.Command{Pair: "id", Revision: r.Revision - pair.Revision(input[i]%2), Term: 1,
				Body: anyBody(input[i+1], r)}
			next, _, err := r.Apply(c, 1)
			if err != nil {
				continue
			}
			if next.Revision < r.Revision || next.Epoch < r.Epoch || next.LongestLease < next.Policy.Lease {
				t.Fatalf("%T took %+v to %+v", c.Body, r, next)
			}
			r = next
		}
	})
}

func anyBody(b byte, r pair.Record) pair.Body {
	id, host := "p", []pair.HostID{"a", "b", "c"}[b%3]
	if r.Procedure != nil {
		id = r.Procedure.ID
	}
	fast, _ := pair.ProfilePolicy("fast")
	bodies := []pair.Body{
		pair.Arm{Host: host}, pair.Expose{Host: host}, pair.Promote{To: host, Procedure: id, Forced: b%2 == 0},
		pair.Reinstate{}, pair.SetMode{Mode: pair.Mode(b % 4)}, pair.SetPolicy{Policy: fast},
		pair.LowerLongest{To: fast.Lease}, pair.EndProcedure{ID: id}, pair.Remove{}, pair.Begin{},
		pair.StepProcedure{ID: id, Step: pair.ProcedureStep(b % 6)},
		pair.StartProcedure{Procedure: pair.Procedure{
			ID: "p", Kind: pair.ProcedureKind(b % 6), Step: pair.StepRelease, Epoch: r.Epoch, AcceptLoss: true,
		}},
		pair.ReplaceMirror{Member: pair.Member{Host: host, Instance: "db"}}, pair.Restore{Generation: uint64(b)},
		pair.Adopt{Epoch: r.Epoch + pair.Epoch(b%3), Primary: host}, pair.Note{Kind: pair.FactWouldFailOver},
	}
	return bodies[int(b)%len(bodies)]
}
