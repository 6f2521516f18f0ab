//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Whoever connects with the mirror's name acknowledges commits for it: PostgreSQL knows a receiver by nothing
// else. A copied data directory, a restored machine or a pg_receivewal with a copied connection string may
// have that name too. The slot of that name tells them apart, because only one receiver can use it.

// sendersSQL lists the senders that have the mirror's name. PostgreSQL compares names without regard to case.
// One that has only just connected sends nothing yet, and is refused if the slot is in use.
const sendersSQL = `
	select pid, state, flush_lsn, coalesce(host(client_addr), 'this host') as client,
		coalesce(pid = (select active_pid from pg_replication_slots where slot_name = $1), false) as own
	from pg_stat_replication
	where lower(application_name) = $1 and state in ('catchup', 'streaming', 'stopping')`

// errStranger means that a receiver which is not the mirror could acknowledge commits in its place.
var errStranger = errors.New("another receiver has the mirror's name")

// strangers says in a sentence who has the mirror's name and not its slot, or "".
func strangers(ctx context.Context, ask asker, receiver string) (string, error) {
	rows, err := ask(ctx, "select pid, client from ("+sendersSQL+") s where not own order by pid", receiver)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	who := make([]string, len(rows))
	for i, row := range rows {
		who[i] = fmt.Sprintf("%s (sender %s)", row.text(1), row.text(0))
	}
	return fmt.Sprintf("%s receives under the mirror's name %s without its slot, so that it could acknowledge "+
		"commits in the mirror's place and commits are not taken as held; give it another application_name, "+
		"or end it", strings.Join(who, ", "), receiver), nil
}

// strangerPatience is how long a stranger is given to go away: the sender of a mirror that connects anew
// leaves its slot an instant before it is off the list.
const strangerPatience = 300 * time.Millisecond

// noStranger refuses to hold commits for a name that somebody else has too.
func (e *Engine) noStranger(ctx context.Context, r *run, receiver string) error {
	for deadline := now().Add(strangerPatience); ; {
		who, err := strangers(ctx, e.askActing(r), receiver)
		if err != nil || who == "" {
			return err
		}
		if now().After(deadline) {
			return fmt.Errorf("%w: %s", errStranger, who)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait until no other receiver has the mirror's name: %w", err)
		}
	}
}

// strangerWarning warns of receivers that have the mirror's name.
func (e *Engine) strangerWarning(ctx context.Context, _ *run, ask asker) string {
	e.mu.Lock()
	receiver := e.receiver
	e.mu.Unlock()
	who, err := strangers(ctx, ask, receiver)
	if receiver == "" || err != nil {
		return ""
	}
	return who
}
