package sqlserver

import (
	"maps"
	"slices"
)

// looksKept is how many looks are remembered: at one look each 200 ms, the mirror may lag 12 s behind and still be
// seen to advance.
const looksKept = 64

// Vector is one place in each database's log.
type Vector map[string]LSN

// Covers says that everything up to other is in v: of the same databases, none is behind. An LSN that is not known
// covers nothing, not even another that is not known.
func (v Vector) Covers(other Vector) bool {
	if len(v) != len(other) {
		return false
	}
	for name, lsn := range other {
		own, ok := v[name]
		if !ok || own.IsZero() || own.Compare(lsn) < 0 {
			return false
		}
	}
	return true
}

// sum is the one number that a person sees grow: it never falls while no LSN does.
func (v Vector) sum() uint64 {
	var total uint64
	for _, lsn := range v {
		total += lsn.scalar()
	}
	return total
}

// Looks makes one number of many databases' LSNs. A pair's databases move together, but each has a log of its own,
// so "the mirror has everything up to here" can only be said of a moment: of a look, in which every database's end
// of log was read. Looks remembers the last ones and gives each a number, larger than that of every look before it
// that was not the same; the mirror has reached a number when it has reached every LSN of that look.
//
// The zero value is ready. It is not safe for several goroutines.
type Looks struct {
	kept []look
}

type look struct {
	vector Vector
	number uint64
}

// At remembers a look at the end of the logs on this host and returns its number.
func (l *Looks) At(vector Vector) uint64 {
	if len(l.kept) > 0 {
		last := l.kept[len(l.kept)-1]
		if maps.Equal(last.vector, vector) {
			return last.number
		}
		if !vector.Covers(last.vector) {
			l.Forget() // another history, or other databases: no earlier look says anything about this one
		}
	}
	number := vector.sum()
	if len(l.kept) > 0 {
		// LSNs that differ in the slot only would have one number, and the mirror would be said to have both looks
		// as soon as it has the earlier one.
		number = max(number, l.kept[len(l.kept)-1].number+1)
	}
	if len(l.kept) == looksKept {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, look{maps.Clone(vector), number})
	return number
}

// Reached returns the number of the newest look of which the mirror, that has got as far as vector, has everything;
// 0 if it has not got as far as any that is remembered.
func (l *Looks) Reached(vector Vector) uint64 {
	for _, look := range slices.Backward(l.kept) {
		if vector.Covers(look.vector) {
			return look.number
		}
	}
	return 0
}

// Forget drops all looks: after a change of roles or a restart the logs may have another history.
func (l *Looks) Forget() { l.kept = nil }

// Number is a vector's number by itself, for a host whose looks nobody is compared with.
func (v Vector) Number() uint64 { return v.sum() }
