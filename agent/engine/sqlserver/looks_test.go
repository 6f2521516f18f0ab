package sqlserver

import (
	"maps"
	"testing"

	"math/rand/v2"
)

func TestLooks(t *testing.T) {
	v := func(a, b uint32) Vector { return Vector{"a": {1, a, 1}, "b": {1, b, 1}} }
	var l Looks
	first := l.At(v(10, 10))
	second := l.At(v(10, 20))
	third := l.At(v(30, 20))
	if !(first < second && second < third) {
		t.Fatalf("the looks have the numbers %d, %d, %d: they must rise", first, second, third)
	}
	if again := l.At(v(30, 20)); again != third {
		t.Errorf("the same look has the number %d the second time, %d the first", again, third)
	}
	for _, c := range []struct {
		mirror Vector
		want   uint64
		what   string
	}{
		{v(9, 99), 0, "behind every look in one database, whatever the other"},
		{v(10, 10), first, "exactly the first"},
		{v(29, 20), second, "between the second and the third"},
		{v(30, 20), third, "everything"},
		{v(99, 99), third, "ahead"},
		{Vector{"a": {1, 99, 1}}, 0, "a database is missing"},
		{Vector{"a": {1, 99, 1}, "b": {}}, 0, "an LSN is not known"},
		{Vector{"a": {1, 99, 1}, "c": {1, 99, 1}}, 0, "another database"},
	} {
		if got := l.Reached(c.mirror); got != c.want {
			t.Errorf("%s: reached %d, want %d", c.what, got, c.want)
		}
	}
}

// Looks that differ in the slot only must differ in their numbers, or the mirror would be said to have the later one.
func TestLooksSlot(t *testing.T) {
	var l Looks
	early, late := Vector{"a": {1, 5, 1}}, Vector{"a": {1, 5, 9}}
	first, second := l.At(early), l.At(late)
	if got := l.Reached(early); got != first || first == second {
		t.Errorf("the mirror has the first look (%d) and is said to have %d; the second is %d", first, got, second)
	}
}

// A log that goes back is another history: what was seen before says nothing about it.
func TestLooksGoBack(t *testing.T) {
	var l Looks
	l.At(Vector{"a": {5, 1, 1}})
	now := l.At(Vector{"a": {4, 1, 1}})
	if got := l.Reached(Vector{"a": {5, 1, 1}}); got != now {
		t.Errorf("reached %d, want %d: only the last look counts", got, now)
	}
	l.At(Vector{"a": {5, 1, 1}, "b": {1, 1, 1}})
	l.At(Vector{"a": {4, 1, 1}, "b": {9, 1, 1}})
	if got := l.Reached(Vector{"a": {5, 1, 1}, "b": {1, 1, 1}}); got != 0 {
		t.Errorf("reached %d, of another history", got)
	}
	if (Vector{"a": {}}).Covers(Vector{"a": {}}) {
		t.Error("two LSNs that are not known are taken for one")
	}
	l.Forget()
	if got := l.Reached(Vector{"a": {9, 9, 9}}); got != 0 {
		t.Errorf("reached %d of no looks", got)
	}
}

// Whatever the logs do, the mirror is never said to have reached a look of which it lacks something.
func TestLooksAreSafe(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var l Looks
		vectors := map[uint64]Vector{}
		primary := Vector{"a": {1, 1, 1}, "b": {1, 1, 1}, "c": {1, 1, 1}}
		mirror := Vector{"a": {1, 1, 1}, "b": {1, 1, 1}, "c": {1, 1, 1}}
		for range 300 {
			for name := range primary {
				lsn := primary[name]
				lsn.Block += random.Uint32N(3)
				lsn.Slot = uint16(random.Uint32N(5))
				if lsn.Compare(primary[name]) > 0 {
					primary[name] = lsn
				}
				if random.IntN(2) == 0 {
					mirror[name] = primary[name]
				}
			}
			look := Vector{}
			maps.Copy(look, primary)
			number := l.At(look)
			if old, ok := vectors[number]; ok && !old.Covers(look) {
				t.Fatalf("two looks have the number %d", number)
			}
			vectors[number] = look
			if reached := l.Reached(mirror); reached != 0 && !mirror.Covers(vectors[reached]) {
				t.Fatalf("the mirror at %v is said to have look %d, %v", mirror, reached, vectors[reached])
			}
		}
	}
}
