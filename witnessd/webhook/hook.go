package webhook

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Hook is one webhook, as it is configured.
type Hook struct {
	Name       string        // names it in the log, in metrics and for its place in the history
	URL        string        // what is called, by POST
	SecretFile string        // see [ReadKeys]
	Events     []string      // kinds of events, such as PROMOTED; empty: all
	Pairs      []string      // names of pairs, in which * stands for anything; empty: all
	Timeout    time.Duration // of one call
}

const (
	// DefaultTimeout is that of a webhook that sets none.
	DefaultTimeout = 5 * time.Second
	maxTimeout     = time.Minute
	maxName        = 63
)

// Validate says, in sentences, what cannot work.
func (h Hook) Validate() []string {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf("webhook %q: ", h.Name)+fmt.Sprintf(format, args...))
		}
	}
	check(h.Name != "" && len(h.Name) <= maxName && plain(h.Name, ""),
		"name must be up to %d letters, digits, '-', '_' and '.'", maxName)
	u, err := url.Parse(h.URL)
	check(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http"),
		"url must begin with https:// and name a host")
	check(h.SecretFile != "", "secret_file must name the file with the key that signs")
	for _, kind := range h.Events {
		check(slices.Contains(pair.FactKinds(), pair.FactKind(kind)), "events: there is no kind %q; the kinds are %v", kind,
			pair.FactKinds())
	}
	for _, pattern := range h.Pairs {
		check(pattern != "" && plain(pattern, "*"), "pairs: %q is no name of a pair, nor one with *", pattern)
	}
	check(h.Timeout >= time.Second && h.Timeout <= maxTimeout, "timeout (%v) must be between 1s and %v", h.Timeout,
		maxTimeout)
	return bad
}

// plain says whether s has nothing but the characters of a name and these.
func plain(s, others string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			return false
		}
		return !strings.ContainsRune(others, c)
	})
}

// wants says whether the webhook is called for an event.
func (h Hook) wants(e ledger.Event) bool {
	return (len(h.Events) == 0 || slices.Contains(h.Events, string(e.Fact.Kind))) &&
		(len(h.Pairs) == 0 || slices.ContainsFunc(h.Pairs, func(p string) bool { return matches(p, e.Fact.PairName) }))
}

// matches compares a name with a pattern in which * stands for any characters, or none.
func matches(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	for name = name[len(first):]; ; name = name[1:] {
		if matches(rest, name) {
			return true
		}
		if name == "" {
			return false
		}
	}
}
