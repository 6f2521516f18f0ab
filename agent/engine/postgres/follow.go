//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// Follow makes the instance a running mirror of its peer, by the first of three ways that can work: attach,
// rewind, clone.
func (e *Engine) Follow(ctx context.Context, peer engine.Peer, progress func(engine.Progress)) error {
	f := &following{Engine: e, peer: peer, receiver: e.named(peer), progress: progress}
	return e.call(ctx, "follow "+peer.Host, f.follow)
}

// following is one call of Follow.
type following struct {
	*Engine
	peer     engine.Peer
	receiver string
	conninfo string
	progress func(engine.Progress)
	// own is this host's configuration, read before anything replaces it.
	own ownConfig
	// end is the end of the primary's log, when it was asked last.
	end point
	// lost is what only this host has, once the two logs were compared; nil if that is not known.
	lost *lost

	telling sync.Mutex // guards meter: a tool's output and a reporter tell at the same time
	meter   meter
}

// tell reports a step, and shows it in State.
func (f *following) tell(p engine.Progress) {
	f.telling.Lock()
	defer f.telling.Unlock()
	p = f.meter.measure(p, now())
	f.mu.Lock()
	f.Engine.step = p.String()
	f.mu.Unlock()
	if f.progress != nil {
		f.progress(p)
	}
}

// tellEvery is how often a wait that has no output of its own is told of.
const tellEvery = time.Second

// tellWhile tells of a wait once it is worth a word, until the returned function is called.
func (f *following) tellWhile(ctx context.Context, what func() engine.Progress) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var teller sync.WaitGroup
	teller.Go(func() {
		ticker := time.NewTicker(tellEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				f.tell(what())
			}
		}
	})
	return func() {
		cancel()
		teller.Wait()
	}
}

func (f *following) follow(ctx context.Context) error {
	var err error
	if f.conninfo, err = f.receiverConninfo(ctx, f.peer.Address, f.receiver); err != nil {
		return err
	}
	if r, err := f.already(ctx); err != nil {
		return err
	} else if r != nil {
		return f.dropOwnSlots(ctx, r)
	}
	up, err := f.askUpstream(ctx, f.peer)
	if err != nil {
		return err
	}
	defer up.close(ctx)
	f.end = up.end
	if err := f.finishSwap(); err != nil {
		return err
	}
	data, why := f.data()
	if data == engine.DataUnknown {
		return fmt.Errorf("%w: %s", engine.ErrForeign, why)
	}
	if data != engine.DataEmpty && exists(f.path("global/pg_control")) {
		own, err := f.readControl(ctx, f.cfg.DataDir)
		if err != nil {
			return err
		}
		if own.systemID != up.systemID {
			return fmt.Errorf("%w: this host holds database system %s, %s serves %s; move the data "+
				"directory away if it is not needed", engine.ErrForeign, own.systemID, f.peer.Host, up.systemID)
		}
	}
	if err := up.ensureSlot(ctx, f.receiver); err != nil {
		return fmt.Errorf("keep the log at %s: %w", f.peer.Host, err)
	}
	if f.own, err = readOwnConfig(f.cfg.DataDir); err != nil {
		return err
	}
	switch {
	case data == engine.DataEmpty:
		return f.clone(ctx, "the data directory is empty")
	case data == engine.DataPresent:
		return f.rejoin(ctx, up)
	case exists(f.path(incompleteFile)):
		return f.finish(ctx)
	default:
		return f.clone(ctx, why)
	}
}

// already is the running server if it follows this very peer, so that nothing need be done. A receiver says that it
// streams from its first moment on, also if the primary is about to refuse it, again and again. Only what it has
// received since tells: until then PostgreSQL shows its own start as the time of both ends of the last message.
func (f *following) already(ctx context.Context) (*run, error) {
	r, err := f.server()
	if err != nil || r == nil || !r.managed {
		return nil, err
	}
	const sql = `select current_setting('primary_conninfo'), current_setting('primary_slot_name'),
		exists (select from pg_stat_wal_receiver
			where status = 'streaming' and last_msg_send_time <> last_msg_receipt_time)
		from (select pg_is_in_recovery() as recovering) r where recovering`
	rows, err := f.acting.query(ctx, r, sql)
	if errors.Is(err, errNotReady) {
		return nil, nil
	}
	if err != nil || len(rows) == 0 ||
		rows[0].text(0) != f.conninfo || rows[0].text(1) != f.receiver || !rows[0].true(2) {
		return nil, err
	}
	return r, nil
}

// finish goes on with a clone or rewind that is whole and has not received what makes it consistent.
func (f *following) finish(ctx context.Context) error {
	r, err := f.server()
	if err != nil {
		return err
	}
	if r != nil {
		// Its upstream may be another, and a copy that is not consistent cannot be asked.
		if err := f.stopServer(ctx, r); err != nil {
			return err
		}
	}
	if r, err = f.launch(ctx, runSettings{upstream: f.conninfo, slot: f.receiver}); err != nil {
		return err
	}
	if err = f.stream(ctx, r); err == nil || errors.Is(err, errSlow) || ctx.Err() != nil {
		return err
	}
	return f.clone(ctx, "the last one cannot be used: "+err.Error())
}

// rejoin brings a database that was part of the pair back, by the shortest way.
func (f *following) rejoin(ctx context.Context, up *upstream) error {
	r, err := f.asCopy(ctx)
	if err != nil {
		return err
	}
	if err := f.ownReplay(ctx, r); err != nil {
		return err
	}
	own, segmentSize, err := f.ownLog(ctx, r)
	if err != nil {
		return err
	}
	// Again, because the own log may have grown from it since.
	if err := up.learn(ctx); err != nil {
		return fmt.Errorf("ask %s: %w", f.peer.Host, err)
	}
	rel := relate(own, up.log)
	f.log.InfoContext(ctx, "own log compared with the primary's", slog.String("own_end", own.end().String()),
		slog.String("primary_end", up.end.String()), slog.String("common", rel.common.String()),
		slog.Uint64("to_discard", rel.discard))
	f.end = up.end
	err = f.sameTail(ctx, up, own, rel.common.at, segmentSize)
	if rel.parted && err == nil {
		f.lost = &lost{own: own, relation: rel, segmentSize: segmentSize}
	}
	switch {
	case errors.Is(err, errOtherBytes), errors.Is(err, errLogGone):
		return f.clone(ctx, err.Error())
	case err != nil && rel.parted && ctx.Err() == nil:
		// The own log does not reach back to where the logs part, and pg_rewind would need it too.
		return f.clone(ctx, err.Error())
	case err != nil:
		return err
	case !rel.parted:
		return f.attach(ctx, r)
	case rel.sameTimeline:
		return f.clone(ctx, "this host has log that the primary does not have on the same timeline")
	case !f.cfg.Rejoin.AllowRewind:
		return f.clone(ctx, "rejoin.allow_rewind is false")
	}
	err = f.rewind(ctx, r)
	if err == nil || ctx.Err() != nil || errors.Is(err, errSlow) {
		return err
	}
	f.log.WarnContext(ctx, "rewind did not succeed", slog.Any("error", err))
	return f.clone(ctx, "no rewind: "+err.Error())
}

// asCopy makes the instance run as a copy; a primary is stopped first. Its start replays what a crash left in
// the log, so that the end of the log is known.
func (f *following) asCopy(ctx context.Context) (*run, error) {
	defer f.tellWhile(ctx, func() engine.Progress {
		return engine.Progress{Step: "attach", Detail: f.replaying()}
	})()
	r, err := f.running(ctx)
	if err != nil {
		return nil, err
	}
	recovering, err := f.inRecovery(ctx, r)
	if err != nil || recovering {
		return r, err
	}
	if err := f.stopServer(ctx, r); err != nil {
		return nil, err
	}
	return f.running(ctx)
}

// replayPatience bounds the wait for the end of the own log: a replay that was paused by hand never comes there.
const replayPatience = time.Minute

// ownReplay waits until the copy has replayed what is on its own disk. It lets readers in before that, and its end is
// then too early a place: a log that has parted later would look as if it could simply go on.
func (f *following) ownReplay(ctx context.Context, r *run) error {
	for end := now().Add(replayPatience); now().Before(end); {
		rows, err := f.acting.query(ctx, r, replayedSQL)
		if err != nil || rows[0].true(0) {
			return err
		}
		f.tell(engine.Progress{Step: "attach", Detail: "replays its own log"})
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for the end of the own log: %w", err)
		}
	}
	return nil
}

// ownLog is the lineage of the instance's own log.
func (f *following) ownLog(ctx context.Context, r *run) (lineage, uint64, error) {
	id, err := f.identifySelf(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	history := ""
	if id.end.timeline > 1 {
		text, err := os.ReadFile(f.path(fmt.Sprintf("pg_wal/%08X.history", id.end.timeline)))
		if err != nil {
			return nil, 0, fmt.Errorf("read the own history: %w", err)
		}
		history = string(text)
	}
	own, err := newLineage(history, id.end)
	if err != nil {
		return nil, 0, err
	}
	c, err := f.readControl(ctx, f.cfg.DataDir)
	return own, c.segmentSize, err
}

// attach lets a running copy receive from where it is.
func (f *following) attach(ctx context.Context, r *run) error {
	f.tell(engine.Progress{Step: "attach"})
	s := runSettings{commits: heldForNobody, upstream: f.conninfo, slot: f.receiver}
	if err := f.apply(ctx, r, s); err != nil {
		return err
	}
	return f.stream(ctx, r)
}

// streamPatience is how long a mirror may take to receive its first change: longer than a sender that lost
// its mirror holds the slot (wal_sender_timeout).
const streamPatience = 15 * time.Second

var (
	// errSlow says that nothing is wrong but the time that it takes.
	errSlow = errors.New("no changes have come yet; see the server's log, and call again")
	// errUnfinished is a copy that is not consistent and receives nothing that would make it so.
	errUnfinished = errors.New("the copy is not consistent and nothing comes to make it so")
)

// stream waits until the copy is consistent and changes stream in, and then removes what only a primary or
// an unfinished copy needs.
func (f *following) stream(ctx context.Context, r *run) error {
	if err := f.consistent(ctx, r); err != nil {
		return err
	}
	files, err := openStore(f.cfg.DataDir, f.user)
	if err != nil {
		return err
	}
	defer files.close()
	if files.has(incompleteFile) {
		// A clone or a rewind has rightly taken the copy back. Forgotten first: an agent that ends in between
		// would find a copy that looks as if it had always been complete, and older than it once was.
		f.forgetReached()
	}
	if err := files.remove(incompleteFile); err != nil {
		return err
	}
	if err := f.awaitChanges(ctx, r); err != nil {
		return err
	}
	return f.dropOwnSlots(ctx, r)
}
