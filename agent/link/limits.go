package link

import (
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of what is taken from the other side. They are far above what an honest one sends and keep a broken
// or hostile one from filling this host's memory.
const (
	maxMessage = 4 << 20 // bytes of one message
	maxPairs   = 10_000  // in one message
	maxNodes   = 16      // learned from one Welcome
	maxName    = 128     // bytes of a name or an id; the witness itself allows 63
	maxAddress = 300     // bytes of host:port; a DNS name has at most 253
	maxText    = 1024    // bytes of words for people: they are cut, not refused
	maxLinks   = 256     // streams that partners may have open here
	maxStreams = 8       // of them on one connection

	// maxLength bounds a duration, so that an instant plus a duration stays an instant.
	maxLength = 365 * 24 * time.Hour
)

// text cuts words for people to a size that no message suffers from. The engine's own words may be in any
// encoding; what is not UTF-8 would make the whole message impossible to send.
func text(s string) string {
	s = utf(s)
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// utf makes any string one that a message can carry.
func utf(s string) string { return strings.ToValidUTF8(s, "�") }

func checkName(what, name string) error {
	switch {
	case name == "":
		return malformed("%s is empty", what)
	case len(name) > maxName:
		return malformed("%s is %d bytes long, more than %d", what, len(name), maxName)
	}
	return nil
}

// checkOptionalName lets a name be missing.
func checkOptionalName(what, name string) error {
	if name == "" {
		return nil
	}
	return checkName(what, name)
}

func checkLength(what string, d time.Duration) error {
	if d < 0 || d > maxLength {
		return malformed("%s is %v", what, d)
	}
	return nil
}

func checkAddress(address string) error {
	if len(address) > maxAddress {
		return fmt.Errorf("address of %d bytes, more than %d", len(address), maxAddress)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" || port == "" {
		return fmt.Errorf("address %q must be host:port", address)
	}
	return nil
}
