package main

import (
	"bytes"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// TestModel explores a share of what `make model` does.
func TestModel(t *testing.T) {
	var out bytes.Buffer
	states := 0
	for _, r := range explore(settings{share: share(), workers: runtime.NumCPU()}, &out, nil) {
		states += r.states
		if r.violation != "" || !r.complete {
			t.Fatal(out.String())
		}
	}
	t.Logf("%d states\n%s", states, out.String())
	if states < 500_000 {
		t.Errorf("only %d states: the search does not see what it should", states)
	}
}

// TestSteadyState: a pair that merely goes on is seen in the same state again, although all its clocks and counters
// have gone on.
func TestSteadyState(t *testing.T) {
	s := startState("armed")
	s.live(1)
	var e encoder
	first := e.fingerprint(s)
	for range 3 {
		s.live(1)
		if e.fingerprint(s) != first {
			t.Fatal("a step of time without a fault leads to another state")
		}
	}
	s.host(b).file.Released = 1
	if e.fingerprint(s) == first {
		t.Error("another epoch file is not told from the first")
	}
}

// TestStartStates: each is what its name says.
func TestStartStates(t *testing.T) {
	for _, f := range families() {
		for _, name := range f.starts {
			s := startState(name)
			if s.violation != "" {
				t.Errorf("%s: %s", name, s.violation)
			}
			var e encoder
			q := &search{family: f, workers: 1, good: newVisited()}
			if why := q.deadEnd(s, &e); why != "" {
				t.Errorf("%s: %s", name, why)
			}
		}
	}
}

// TestFindsWhatIsWrong: a state that breaks a promise is found, and the way to it can be read.
func TestFindsWhatIsWrong(t *testing.T) {
	f := families()[0]
	f.verbs = []verb{reboot}
	f.budget = 1
	start := startState("armed")
	start.host(b).endless = true // the fence of the mirror stays open: nothing keeps it from serving beside the primary
	d := &start.host(b).db
	d.primary, d.following, d.held = true, false, false
	q := &search{family: f, workers: 2, good: newVisited()}
	r := q.run(start, "broken", nil)
	if !strings.Contains(r.violation, "G1") || !strings.Contains(r.trace, "VIOLATION") {
		t.Errorf("violation %q, trace\n%s", r.violation, r.trace)
	}
}

// TestFieldsExist: what is said of fields by name is said of fields that there are.
func TestFieldsExist(t *testing.T) {
	there := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(u reflect.Type) {
		switch u.Kind() {
		case reflect.Pointer, reflect.Array:
			walk(u.Elem())
		case reflect.Struct:
			for f := range u.Fields() {
				there[u.Name()+"."+f.Name] = true
				walk(f.Type)
			}
		default:
		}
	}
	for u := range plans {
		walk(u)
	}
	for name := range forPeople {
		if !there[name] {
			t.Errorf("there is no field %s", name)
		}
	}
	for name := range horizons {
		if !there[name] {
			t.Errorf("there is no field %s", name)
		}
		if forPeople[name] {
			t.Errorf("%s both counts and does not", name)
		}
	}
}

func TestCalledWrongly(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"-family", "none"}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "-list") {
		t.Errorf("exit status %d, %q", code, errs.String())
	}
	for _, args := range [][]string{{"more"}, {"-workers", "0"}, {"-states", "-5"}, {"-more", "-1"}, {"-start", "armed,x"}} {
		if code := run(args, &out, &errs); code != 2 {
			t.Errorf("%v: exit status %d", args, code)
		}
	}
	if code := run([]string{"-list"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "restores") {
		t.Errorf("exit status %d, %q", code, out.String())
	}
}
