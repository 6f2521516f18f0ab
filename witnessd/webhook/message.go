package webhook

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
)

// message is what a webhook is called with; a repetition is the same but for its time and signature.
type message struct {
	id   string
	kind string
	at   int64 // milliseconds, of what it tells
	body []byte
}

// envelope is the body.
type envelope struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

// told is an event with the names and forms that `witnessctl events -o json` has.
type told struct {
	Sequence  string `json:"sequence"`
	At        string `json:"at"`
	Kind      string `json:"kind"`
	Pair      string `json:"pair"`
	PairName  string `json:"pair_name"`
	Revision  string `json:"revision"`
	Epoch     string `json:"epoch"`
	Host      string `json:"host"`
	Procedure string `json:"procedure"`
	Cause     string `json:"cause"`
	By        string `json:"by"`
}

// Missed is the type of the message that stands for events which the history does not hold any more.
const Missed = "missed"

// gap is what is known of them: their numbers. They are events of all pairs and kinds, whatever the webhook chooses.
type gap struct {
	Webhook string `json:"webhook"`
	Count   string `json:"count"`
	First   string `json:"first_sequence"`
	Last    string `json:"last_sequence"`
}

// tell makes an event's message. Its id is the same whichever node sends it, and whenever. After a restore of the
// witness sequences come again, with other events; the time tells them apart.
func tell(e ledger.Event) message {
	f := e.Fact
	return compose(fmt.Sprintf("evt_%d_%d", e.Sequence, e.At), string(f.Kind), e.At, told{
		Sequence: decimal(e.Sequence), At: timestamp(e.At), Kind: string(f.Kind), Pair: string(f.Pair),
		PairName: f.PairName, Revision: decimal(uint64(f.Revision)), Epoch: decimal(uint64(f.Epoch)),
		Host: string(f.Host), Procedure: f.Procedure, Cause: f.Cause, By: f.By,
	})
}

// tellMissed makes the message for a gap of the history before an event.
func tellMissed(webhook string, first uint64, next ledger.Event) message {
	last := next.Sequence - 1
	return compose(fmt.Sprintf("missed_%d_%d_%d", first, last, next.At), Missed, next.At, gap{
		Webhook: webhook, Count: decimal(last - first + 1), First: decimal(first), Last: decimal(last),
	})
}

func compose(id, kind string, at int64, data any) message {
	body, err := json.Marshal(envelope{Type: kind, Timestamp: timestamp(at), Data: data})
	if err != nil {
		panic(fmt.Sprintf("webhook: write message %s: %v", id, err)) // it is made of strings
	}
	return message{id: id, kind: kind, at: at, body: body}
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// timestamp is a wall clock in milliseconds as JSON has it: with a fraction if there is one.
func timestamp(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if ms%1000 == 0 {
		return t.Format("2006-01-02T15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}
