//go:build linux

package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

// HandOver stops a primary cleanly. A fast shutdown ends the sessions, writes a last checkpoint, and lets
// the senders go on until an attached mirror has confirmed it; that the mirror has it is then asked of the
// mirror's own server.
func (e *Engine) HandOver(ctx context.Context, peer engine.Peer) (engine.Handover, error) {
	var result engine.Handover
	e.named(peer)
	err := e.call(ctx, "hand over", func(ctx context.Context) error {
		if err := e.assureGate(); err != nil {
			return err
		}
		r, err := e.server()
		if err != nil {
			return err
		}
		if r != nil {
			if err := e.drain(ctx, r); err != nil {
				return err
			}
		}
		end, err := e.finalEnd(ctx)
		if err != nil {
			return err
		}
		result.Final = end.position()
		if err := e.confirm(ctx, peer, end); err != nil {
			e.log.WarnContext(ctx, "mirror did not confirm the end of the log", slog.String("final", end.String()),
				slog.Any("error", err))
			return nil
		}
		result.MirrorHasEverything = true
		return nil
	})
	return result, err
}

// drain stops the server with as short a pause for clients as can be: what the shutdown's checkpoint would
// have to write is written before.
func (e *Engine) drain(ctx context.Context, r *run) error {
	recovering, err := e.inRecovery(ctx, r)
	if err != nil {
		return err
	}
	if recovering {
		return errors.New("the server is a copy; only a primary hands over")
	}
	for range mostCheckpoints {
		began := now()
		if _, err := e.acting.query(ctx, r, "checkpoint"); err != nil {
			return err
		}
		// While a long one went on, clients made as much anew; the next has only that to write.
		if now().Sub(began) < quickCheckpoint {
			break
		}
	}
	return e.stopServer(ctx, r)
}

const (
	// quickCheckpoint is what the shutdown's own checkpoint may take of the clients' pause.
	quickCheckpoint = 200 * time.Millisecond
	// mostCheckpoints bounds the tries on a disk that does not keep up.
	mostCheckpoints = 3
)

// finalEnd is where the log of a cleanly stopped primary ends: behind its last record, the checkpoint.
func (e *Engine) finalEnd(ctx context.Context) (point, error) {
	c, err := e.readControl(ctx, e.cfg.DataDir)
	if err != nil {
		return point{}, err
	}
	if c.state != "shut down" {
		return point{}, fmt.Errorf("the server did not stop cleanly (it is %q), so its log may have more "+
			"than the mirror; fail over instead, or start it again", c.state)
	}
	at := c.checkpoint.at
	f, err := os.Open(e.path("pg_wal/" + segmentName(c.checkpoint.timeline, at, c.segmentSize)))
	if err != nil {
		return point{}, fmt.Errorf("find the end of the log: %w", err)
	}
	defer f.Close()
	length := make([]byte, 4) // xl_tot_len, in the machine's order, never split between pages.
	if _, err := io.ReadFull(io.NewSectionReader(f, int64(uint64(at)%c.segmentSize), 4), length); err != nil {
		return point{}, fmt.Errorf("find the end of the log: %w", err)
	}
	const align = 8 // MAXALIGN: what comes next begins there, and so says whoever has it all.
	end := recordEnd(at, binary.NativeEndian.Uint32(length), c.segmentSize)
	return point{timeline: c.checkpoint.timeline, at: (end + align - 1) / align * align}, nil
}

// confirmPatience bounds the wait for the mirror's word after the server has stopped: its sender has waited
// for the same word before.
const confirmPatience = 3 * time.Second

// confirm asks the mirror's server until it says that it has everything up to end on disk.
func (e *Engine) confirm(ctx context.Context, peer engine.Peer, end point) error {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmPatience, errors.New("it has not everything"))
	defer cancel()
	conn, err := e.dialPartner(ctx, peer.Address, e.cfg.Database, true)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	own, err := e.readControl(ctx, e.cfg.DataDir)
	if err != nil {
		return err
	}
	for {
		if done, err := hasEverything(ctx, conn, own.systemID, end); err != nil || done {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for %s: %w", peer.Host, err)
		}
	}
}

// hasEverything asks a mirror once. A copy answers with what it has on disk.
func hasEverything(
	ctx context.Context, conn *pgconn.PgConn, systemID string, end point,
) (bool, error) {
	id, err := identify(ctx, conn)
	switch {
	case err != nil:
		return false, err
	case id.systemID != systemID:
		return false, fmt.Errorf("%w: the partner serves database system %s, this host %s",
			engine.ErrForeign, id.systemID, systemID)
	case !id.copy:
		return false, errors.New("the partner's server is a primary")
	case id.end.timeline != end.timeline:
		return false, fmt.Errorf("the mirror is on timeline %d, this host on %d", id.end.timeline, end.timeline)
	}
	return id.end.at >= end.at, nil
}
