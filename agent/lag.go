package agent

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// unknownLease stands in for two leases while the pair's policy was not heard.
const unknownLease = 5 * time.Second

// behind is how many bytes of the log a reader at this mirror does not see yet, compared with where the partner's
// agent last said that its primary is. It is not known if that word is older than two leases, or speaks of another
// history: then nobody can tell how far behind this mirror is.
func (st instanceStatus) behind(now hold.Instant) (lag uint64, known bool) {
	mine, primary := st.status.Engine, st.peer
	fresh := unknownLease
	if st.lease > 0 {
		fresh = 2 * st.lease
	}
	switch {
	case !st.follows(), st.peerAt == 0, now.Sub(st.peerAt) > fresh:
		return 0, false
	case !primary.Running, primary.Role != hold.RolePrimary:
		return 0, false
	case mine.Timeline == 0, mine.Timeline != primary.Timeline:
		return 0, false
	case mine.Replayed >= primary.Position:
		return 0, true // the look here is newer than the partner's word
	}
	return primary.Position - mine.Replayed, true
}

// lagLimit is how far behind a mirror may be. The zero value sets no limit.
type lagLimit struct {
	bytes uint64
	set   bool
}

// holds says whether a lag is within the limit; one that is not known is not.
func (l lagLimit) holds(lag uint64, known bool) bool { return !l.set || known && lag <= l.bytes }

// parseLag reads bytes, with or without a unit: 1048576, 1MB (a million bytes), 16MiB.
func parseLag(s string) (lagLimit, error) {
	units := []struct {
		name  string
		bytes int64
	}{
		{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
		{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1}, {"", 1},
	}
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToLower(s[len(number):])
	digits := number != "" && len(number) <= 20 && strings.Trim(number, "0123456789") == ""
	for _, u := range units {
		if !digits || u.name != unit {
			continue
		}
		n, _ := new(big.Int).SetString(number, 10)
		if n.Mul(n, big.NewInt(u.bytes)); n.IsUint64() {
			return lagLimit{bytes: n.Uint64(), set: true}, nil
		}
	}
	return lagLimit{}, fmt.Errorf("lag (%.40q) must be bytes, with or without a unit: 1048576, 1MB, 16MiB", s)
}
