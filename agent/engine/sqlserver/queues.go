package sqlserver

import (
	"fmt"
	"strings"
	"time"
)

// Queue is how far a mirror lags in one database, as one look shows it. Redone and Sent count up; what they grow by
// is a rate.
type Queue struct {
	Database string
	RedoKB   int64 // log that is on the mirror's disk and not yet in its pages; on a mirror
	SendKB   int64 // log that is not yet on the mirror; on a principal
	Redone   int64 // bytes redone since the start of the instance
	Sent     int64 // bytes sent since the start of the instance
}

// The performance counters that QueuesOf reads.
const (
	counterRedoQueue = "Redo Queue KB"
	counterSendQueue = "Log Send Queue KB"
	counterRedone    = "Redo Bytes/sec"
	counterSent      = "Log Bytes Sent/sec"
)

// QueuesOf puts the mirroring counters of one look together, by database.
func QueuesOf(rows []CounterRow) []Queue {
	var all []Queue
	at := map[string]int{}
	for _, r := range rows {
		if r.Database == "" || strings.EqualFold(r.Database, "_Total") {
			continue
		}
		i, ok := at[r.Database]
		if !ok {
			i = len(all)
			at[r.Database] = i
			all = append(all, Queue{Database: r.Database})
		}
		switch r.Counter {
		case counterRedoQueue:
			all[i].RedoKB = r.Value
		case counterSendQueue:
			all[i].SendKB = r.Value
		case counterRedone:
			all[i].Redone = r.Value
		case counterSent:
			all[i].Sent = r.Value
		}
	}
	return all
}

// Lag is what a database's queues mean in time.
type Lag struct {
	Queue
	// Recovery is how long the mirror would redo before it serves; 0: at once, or not known (RateKnown).
	Recovery time.Duration
	// RateKnown says that Recovery rests on a rate that was measured.
	RateKnown bool
	// Stuck is for how long redo has stood still with something to do.
	Stuck time.Duration
	// Point is how old, at most, the oldest commit is that the mirror lacks.
	Point time.Duration
}

// The meter's rules.
const (
	// rateOver is over how long a redo rate is measured: shorter, a pause would look like standstill.
	rateOver = 10 * time.Second
	// longest bounds every estimate: what takes longer than that is not known better than "more than a day".
	longest = 24 * time.Hour
	// emptyKB is a queue that is only what is under way.
	emptyKB = 64
)

// meter turns queues into times. It is told every look; it never divides by a rate that was not seen.
type meter struct {
	databases map[string]*metered
}

type metered struct {
	begun  time.Time // of the present measurement of the redo rate
	redone int64     // then
	rate   float64   // bytes in a second, of the last measurement in which something was redone; 0: none yet
	moved  time.Time // when redo advanced last, or had nothing to do

	caughtUp time.Time // when the send queue was empty last
	sent     int64     // then
}

// note takes a look in. at is when it was taken.
func (m *meter) note(at time.Time, queues []Queue) []Lag {
	if m.databases == nil {
		m.databases = map[string]*metered{}
	}
	var all []Lag
	for _, q := range queues {
		d, ok := m.databases[q.Database]
		if !ok || q.Redone < d.redone || q.Sent < d.sent { // the counters began anew
			d = &metered{begun: at, redone: q.Redone, moved: at, caughtUp: at, sent: q.Sent}
			m.databases[q.Database] = d
		}
		all = append(all, d.note(at, q))
	}
	return all
}

func (d *metered) note(at time.Time, q Queue) Lag {
	lag := Lag{Queue: q}
	if q.Redone > d.redone || q.RedoKB <= emptyKB {
		d.moved = at
	}
	lag.Stuck = at.Sub(d.moved)
	if elapsed := at.Sub(d.begun); elapsed >= rateOver {
		if done := q.Redone - d.redone; done > 0 {
			d.rate = float64(done) / elapsed.Seconds()
		}
		d.begun, d.redone = at, q.Redone
	}
	if q.RedoKB > emptyKB && d.rate > 0 {
		lag.Recovery, lag.RateKnown = timeFor(q.RedoKB, d.rate), true
	}
	if q.SendKB <= emptyKB {
		d.caughtUp, d.sent = at, q.Sent
		return lag
	}
	// Everything since caughtUp was written in this time: what was sent of it first, what waits last.
	waiting, gone := float64(q.SendKB)*1024, float64(q.Sent-d.sent)
	lag.Point = time.Duration(float64(at.Sub(d.caughtUp)) * waiting / (waiting + gone))
	return lag
}

// timeFor is how long a queue takes at a rate in bytes in a second.
func timeFor(kb int64, rate float64) time.Duration {
	seconds := float64(kb) * 1024 / rate
	if seconds >= longest.Seconds() {
		return longest
	}
	return time.Duration(seconds * float64(time.Second))
}

// GroupLag is what the queues of a database of an availability group mean in time: there SQL Server tells the rates.
func GroupLag(r GroupDatabaseRow) Lag {
	lag := Lag{Queue: Queue{Database: r.Database, RedoKB: r.RedoQueueKB, SendKB: r.SendQueueKB}}
	if r.RedoQueueKB > emptyKB && r.RedoRateKB > 0 {
		lag.Recovery, lag.RateKnown = timeFor(r.RedoQueueKB, float64(r.RedoRateKB)*1024), true
	}
	if r.SendQueueKB > emptyKB && r.SendRateKB > 0 {
		lag.Point = timeFor(r.SendQueueKB, float64(r.SendRateKB)*1024)
	}
	return lag
}

// ServeIn is how long a unit of databases would redo before all of them serve: they redo at the same time, so it is
// the longest; 0 at once, or not known.
func ServeIn(lags []Lag) time.Duration {
	var most time.Duration
	for _, l := range lags {
		most = max(most, l.Recovery)
	}
	return most
}

// stuckAfter is for how long redo may stand still before that is worth a word.
const stuckAfter = 30 * time.Second

// lagWarnings compares queues with the targets.
func lagWarnings(lags []Lag, target TargetConfig) []string {
	var said []string
	for _, l := range lags {
		switch {
		case l.Stuck >= stuckAfter:
			said = append(said, fmt.Sprintf("%s: the mirror's redo has stood still for %v with %s to go",
				l.Database, l.Stuck.Round(time.Second), size(l.RedoKB)))
		case l.Recovery > target.Recovery:
			said = append(said, fmt.Sprintf("%s: the mirror would take %s to redo %s before it serves; the target is %v",
				l.Database, about(l.Recovery), size(l.RedoKB), target.Recovery))
		}
		if l.Point > target.Point {
			said = append(said, fmt.Sprintf("%s: the mirror lacks the commits of up to the last %s (%s to send); the "+
				"target is %v", l.Database, about(l.Point), size(l.SendKB), target.Point))
		}
	}
	return said
}

// Detail is a database's queues in a few words, "" if they are empty.
func (l Lag) Detail() string {
	var words []string
	if l.SendKB > emptyKB {
		words = append(words, "to send "+size(l.SendKB))
	}
	if l.RedoKB > emptyKB {
		word := "to redo " + size(l.RedoKB)
		if l.RateKnown {
			word += ", " + about(l.Recovery)
		}
		words = append(words, word)
	}
	return strings.Join(words, "; ")
}

// about is a time as precise as an estimate is.
func about(d time.Duration) string {
	switch {
	case d >= longest:
		return "more than a day"
	case d < time.Second:
		return "less than 1s"
	case d < time.Minute:
		return d.Round(time.Second).String()
	default:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
}

// size is a number of kilobytes for people.
func size(kb int64) string {
	switch {
	case kb >= 10<<20:
		return fmt.Sprintf("%d GB", kb>>20)
	case kb >= 10<<10:
		return fmt.Sprintf("%d MB", kb>>10)
	default:
		return fmt.Sprintf("%d KB", kb)
	}
}
