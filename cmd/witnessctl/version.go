package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (r *run) version() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "print the version of witnessctl",
		Long: `Print the version of witnessctl, as witnessctl --version does. Those of the nodes are in status, those of the
agents in pair show.`,
		Args: names(), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(r.printVersion)
	return cmd
}

func (r *run) printVersion(context.Context, []string) error {
	version, commit := built()
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if r.settings.Output == outputTable {
		return r.write(fmt.Sprintf("witnessctl %s (%s, %s, %s)\n", version, commit, runtime.Version(), platform))
	}
	raw, err := json.Marshal(map[string]string{
		"version": version, "commit": commit, "go": runtime.Version(), "platform": platform,
	})
	if err != nil {
		return err
	}
	return r.document(raw)
}

// built is what the compiler wrote into the program.
func built() (version, commit string) {
	version, commit = "(devel)", "commit unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = "commit " + s.Value
		}
	}
	return cmp.Or(info.Main.Version, version), commit
}
