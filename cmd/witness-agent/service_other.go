//go:build !windows

package main

import "github.com/spf13/cobra"

// defaultConfig is where packages install the configuration.
const defaultConfig = "/etc/witnessd/witness-agent.yaml"

// serviceCommands are for Windows.
func serviceCommands() []*cobra.Command { return nil }

// guardian is for Windows: elsewhere the kernel, or the supervisor, does better.
func guardian(string) func() error { return nil }
