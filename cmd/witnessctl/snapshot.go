package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) snapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot FILE", Short: "write a backup of the whole state of the witness",
		Long: `Write the whole state of the witness to a file, for witnessd restore. The file appears under its name only when
it is complete and on disk; an older one of that name is replaced then.`,
		Example: `  witnessctl snapshot /var/backups/witness-$(date +%F).snap`,
		Args:    names("FILE"),
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		size, err := r.backup(ctx, args[0])
		if err != nil {
			return err
		}
		if r.settings.Output == outputTable {
			return r.write(fmt.Sprintf("wrote %s, %d bytes\n", args[0], size))
		}
		raw, err := json.Marshal(map[string]any{"file": args[0], "bytes": size})
		if err != nil {
			return err
		}
		return r.document(raw)
	})
	return cmd
}

// backup writes the state beside the file and renames it when all of it is on disk.
func (r *run) backup(ctx context.Context, name string) (size int64, err error) {
	nodes, err := r.witness()
	if err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // for its owner only
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if size, err = r.receive(ctx, nodes, f); err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, errors.New("the witness sent an empty snapshot")
	}
	if err = f.Sync(); err != nil {
		return 0, err
	}
	if err = f.Close(); err != nil {
		return 0, errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return 0, errors.Join(err, os.Remove(f.Name()))
	}
	return size, syncDir(filepath.Dir(name))
}

// receive takes the stream, from its beginning again if another node must be asked.
func (r *run) receive(ctx context.Context, nodes *endpoints.Set, f *os.File) (int64, error) {
	var size atomic.Int64
	defer r.progress.during(func() string { return fmt.Sprintf("%d bytes so far", size.Load()) })()
	err := endpoints.Follow(ctx, nodes, endpoints.Patience{Quiet: r.settings.Timeout, Lost: r.settings.Timeout},
		endpoints.Stream[witnessv1.SnapshotResponse]{
			Open: func(ctx context.Context, conn grpc.ClientConnInterface) (
				grpc.ServerStreamingClient[witnessv1.SnapshotResponse], error,
			) {
				if _, err := f.Seek(0, 0); err != nil {
					return nil, err
				}
				size.Store(0)
				if err := f.Truncate(0); err != nil {
					return nil, err
				}
				return witnessv1.NewWitnessServiceClient(conn).Snapshot(ctx, &witnessv1.SnapshotRequest{})
			},
			Each: func(m *witnessv1.SnapshotResponse) (bool, error) {
				n, err := f.Write(m.GetChunk())
				size.Add(int64(n))
				return false, err
			},
			Whole: true,
		})
	return size.Load(), err
}
