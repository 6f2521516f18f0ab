package hold

import (
	"fmt"
	"strings"
	"time"
)

// retryDelay is how long a failed operation waits before it is tried again: long enough not to fill a log, short
// enough that a mirror is back soon after its cause is mended. Each further failure for the same cause doubles it.
const retryDelay = 2 * time.Second

// How long a wait may become. A try that fails at once costs nothing, and what it waits for (a partner that comes
// up, a link that is mended) should not wait for it; a clone that fails after an hour has cost the primary an hour of
// its disk and network.
const (
	longestWait   = time.Minute
	longestCheap  = 8 * time.Second
	longestRevive = retryDelay // OpPromote: nobody is served meanwhile
	cheapTry      = 10 * time.Second
)

// tries counts the failures of one operation in a row. What was wanted then is in it: a change of that is a new
// beginning, and so is another cause.
type tries struct {
	op    Op
	epoch Epoch
	peer  Peer
	cause string
	count int
}

// again counts one more failure.
func (t tries) again(op Op, file File, err string) tries {
	now := tries{op: op, epoch: file.Epoch, peer: file.Peer, cause: cause(err), count: 1}
	before := t
	before.count = 1
	if before == now {
		now.count = t.count + 1
	}
	return now
}

// wait is how long after a failure the next try begins, if the last one took so long.
func (t tries) wait(took time.Duration) time.Duration {
	longest := longestWait
	switch {
	case t.op == OpPromote:
		longest = longestRevive
	case took < cheapTry:
		longest = longestCheap
	}
	return min(retryDelay<<min(t.count-1, mostDoublings), longest)
}

// loud says which failures go to the log: the first, and then one now and then. The complaint counts them all.
func (t tries) loud() bool {
	const nowAndThen = 8
	return t.count == 1 || t.count%nowAndThen == 0
}

// words tell an operator that this is not the first failure, and when the next try begins; a first one may pass.
func (t tries) words(wait time.Duration) string {
	if t.count == 1 {
		return ""
	}
	return fmt.Sprintf(" (failed %d times so, tried again after %v)", t.count, wait)
}

// cause is what of an error stays the same from try to try: its words without those that have a number in them, such
// as times, places in a log and process ids.
func cause(err string) string {
	var same []string
	for word := range strings.FieldsSeq(err) {
		if !strings.ContainsAny(word, "0123456789") {
			same = append(same, word)
		}
	}
	return strings.Join(same, " ")
}
