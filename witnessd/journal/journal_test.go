package journal

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// counts reads witnessd_facts_total by kind.
func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "witnessd_facts_total" {
			t.Errorf("unexpected metric %s", family.GetName())
		}
		for _, m := range family.GetMetric() {
			byKind[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return byKind
}

func newJournal(t *testing.T, out *bytes.Buffer) (*Journal, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	untimed := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: untimed}))
	j, err := New(log, registry)
	if err != nil {
		t.Fatal(err)
	}
	return j, registry
}

func TestRecordWritesOneLineAndCounts(t *testing.T) {
	tests := []struct {
		fact pair.Fact
		want string
	}{
		{
			pair.Fact{
				Kind: pair.FactPromoted, Pair: "id", PairName: "sales", Revision: 7, Epoch: 3, Host: "b",
				Procedure: "p1", Cause: "b promoted: a is\nsilent",
			},
			`level=WARN msg="pair event" pair=sales epoch=3 revision=7 kind=PROMOTED ` +
				`cause="b promoted: a is\nsilent" host=b procedure=p1`,
		},
		{
			pair.Fact{
				Kind: pair.FactPromoted, PairName: "sales", Revision: pair.NewRevision(2) + 5, Epoch: 4, Host: "a",
				Cause: "switchover", By: "ann",
			},
			`level=INFO msg="pair event" pair=sales epoch=4 revision=2.5 kind=PROMOTED cause=switchover host=a by=ann`,
		},
		{
			pair.Fact{Kind: pair.FactProcedureFailed, PairName: "sales", Cause: "timed out", By: "ann"},
			`level=ERROR msg="pair event" pair=sales epoch=0 revision=0 kind=PROCEDURE_FAILED cause="timed out" by=ann`,
		},
		{
			pair.Fact{Kind: "NEWER", PairName: "sales", Cause: "who knows"},
			`level=WARN msg="pair event" pair=sales epoch=0 revision=0 kind=NEWER cause="who knows"`,
		},
	}
	var out bytes.Buffer
	j, registry := newJournal(t, &out)
	for _, test := range tests {
		out.Reset()
		j.Record(t.Context(), test.fact)
		if got := out.String(); got != test.want+"\n" {
			t.Errorf("got  %swant %s", got, test.want)
		}
	}
	for kind, want := range map[string]float64{"PROMOTED": 2, "PROCEDURE_FAILED": 1, "NEWER": 1, "ARMED": 0} {
		if got, there := counts(t, registry)[kind]; got != want || !there {
			t.Errorf("%s counted %v (there: %v), want %v", kind, got, there, want)
		}
	}
}

func TestASecondJournalInTheSameRegistryIsAnError(t *testing.T) {
	var out bytes.Buffer
	j, registry := newJournal(t, &out)
	if _, err := New(j.log, registry); err == nil {
		t.Error("two journals would count the same facts twice")
	}
}

// TestEveryKindHasALevel reads the kinds from the source of package pair, so that a new one is not forgotten.
func TestEveryKindHasALevel(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../pair/fact.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known, found := levels(), 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "FactKind" {
			return true
		}
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if _, ok := known[pair.FactKind(kind)]; !ok {
			t.Errorf("%s has no level", spec.Names[0].Name)
		}
		return true
	})
	if found == 0 || found != len(known) {
		t.Errorf("%d kinds in package pair, %d with a level", found, len(known))
	}
}
