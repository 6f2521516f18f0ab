package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// demodb says what it is, and does nothing without being told where.
func TestCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for _, c := range []struct {
		args    []string
		out     string // a part of what it prints
		refusal string // a part of the error; "" if it succeeds
	}{
		{args: []string{"--help"}, out: "Do not keep data in it that you need."},
		{refusal: "say which directory"},
		{args: []string{"init"}, refusal: "say which directory"},
		{args: []string{"--dir", dir}, refusal: "is not a directory"},
		{args: []string{"init", "--dir", dir}, out: "new database "},
		{args: []string{"init", "--dir", dir}, refusal: "there is a database already"},
		{args: []string{"--dir", dir, "--log-level", "loud"}, refusal: "loud"},
	} {
		var out strings.Builder
		cmd := command()
		cmd.SetArgs(c.args)
		cmd.SetOut(&out)
		err := cmd.Execute()
		if c.refusal == "" && err != nil || c.refusal != "" &&
			(err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%v: %v, want %q", c.args, err, c.refusal)
		}
		if !strings.Contains(out.String(), c.out) {
			t.Errorf("%v printed %q, want %q", c.args, out.String(), c.out)
		}
	}
	if info, err := kv.Inspect(dir); err != nil || info.Data != kv.DataPresent {
		t.Errorf("after init: %+v %v", info, err)
	}
}
