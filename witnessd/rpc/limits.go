package rpc

import (
	"net"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Whatever a peer can make grow has a bound.
const (
	maxMessage  = 4 << 20 // bytes; a batch of a relay is the largest
	maxSessions = 20_000  // agent sessions on one node
	maxStreams  = 4096    // of one connection: a load balancer or a test may put many agents on one
	maxReports  = 256     // instances of one host
	maxName     = 63      // of hosts and instances; of pairs, package pair says so
	maxWord     = 255     // addresses, ids, versions
	maxText     = 1024    // what people or engines say
	maxHooks    = 8       // of one report
	maxCommand  = 150     // bytes of a hook's command, or of a rescue's statement
	maxHookText = 300     // bytes of what a hook printed
	maxEvents   = 1000    // of one answer
	sessionRoom = 16      // answers that wait for one slow session
	relayRoom   = 10_000  // heartbeats and answers that wait for one slow relay
	pairsAtOnce = 200     // of one message of a watch
	maxBeat     = 1 << 20 // bytes of one heartbeat
	batchSize   = 1 << 20 // bytes of a relay's batch, roughly: with one more heartbeat it is still below maxMessage
	snapshotRun = 256 << 10
)

const (
	// patience is how long a call waits for a leader: a new one is found in about a second.
	patience = 2 * time.Second
	// again is how soon a call looks for the leader again.
	again = 25 * time.Millisecond
	// alive is how soon a peer that vanished without a word is given up, on both sides.
	alive = 10 * time.Second
)

// serverLimits are the options that every server of this package needs.
func serverLimits() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: alive, Timeout: alive / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: alive / 4, PermitWithoutStream: true}),
	}
}

// cut shortens what an agent says for people; a long complaint is no reason not to hear the agent.
func cut(s string) string { return cutTo(s, maxText) }

// cutTo never leaves half a character: protobuf refuses it.
func cutTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// checkName refuses a name that a shell, a file system or a table would trip over.
func checkName(what, s string) *pair.Refusal {
	ok := s != "" && len(s) <= maxName && s[0] != '.' && s[0] != '-'
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			ok = false
		}
	}
	if ok {
		return nil
	}
	return badRequest("use up to 63 letters, digits, '-', '_' and '.'", "%s %q is not valid", what, s)
}

// checkLength refuses what is longer than any honest value.
func checkLength(what, s string, limit int) *pair.Refusal {
	if len(s) <= limit {
		return nil
	}
	return badRequest("", "%s is longer than %d bytes", what, limit)
}

// checkAddress refuses what nobody could dial.
func checkAddress(what, s string) *pair.Refusal {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" || len(s) > maxWord {
		return badRequest("give it as host:port", "%s %q is not valid", what, s)
	}
	return nil
}

// batches calls send with pieces of all that are not much larger than batchSize, until it fails.
func batches[M proto.Message](all []M, send func([]M) error) error {
	start, size := 0, 0
	for i, m := range all {
		size += proto.Size(m)
		if size < batchSize && i < len(all)-1 {
			continue
		}
		if err := send(all[start : i+1]); err != nil {
			return err
		}
		start, size = i+1, 0
	}
	return nil
}
