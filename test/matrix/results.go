package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// results are what the runs of one or several calls gave.
type results struct {
	Machine machine  `json:"machine"`
	Runs    []result `json:"runs"`
}

// machine is what figures depend on.
type machine struct {
	Cores int `json:"cores"`
	// FsyncMS is the median time to make 8 kB durable, in milliseconds.
	FsyncMS float64 `json:"fsync_ms"`
}

// result is what one run gave. Times are in milliseconds.
type result struct {
	Row string    `json:"row"`
	At  time.Time `json:"at"` // when the fault began, UTC
	// Outage is the longest time without an acknowledged commit from any host, for clients outside that try each
	// host all the time. Where service must stop until the fault is mended, it is the time from then on.
	Outage int64 `json:"outage_ms"`
	// Users is the same for the clients that know both hosts, with the time-outs of their connecting.
	Users int64 `json:"users_ms"`
	// Lost are acknowledged rows that are missing at a host, Twice those that a host acknowledged while another
	// did, and Late those that it had been asked for before: released, or arrived, too late.
	Lost  int `json:"lost"`
	Twice int `json:"twice"`
	Late  int `json:"late"`
	// Redundancy is how long after the mending the pair was armed for good; -1: it was not.
	Redundancy int64 `json:"redundancy_ms"`
	// Moves is how often the right went to another host.
	Moves int `json:"moves"`
	// Steps are the facts that the witness recorded, in order.
	Steps []string `json:"steps"`
	// Wrong says how the decision was another than the documented one.
	Wrong []string `json:"wrong,omitempty"`
	// Broken are other promises that did not hold.
	Broken []string `json:"broken,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	// Faults are what befell the pair in a random run, and Seed what they came from.
	Faults string `json:"faults,omitempty"`
	Seed   uint64 `json:"seed,omitempty"`
}

// bad says whether anything that needs no median was broken.
func (r result) bad() bool {
	return r.Lost > 0 || r.Twice > 0 || len(r.Wrong) > 0 || len(r.Broken) > 0 || r.unarmed()
}

// redundancyLimit is within what time the pair must be armed again by itself.
const redundancyLimit = 30 * time.Second

func (r result) unarmed() bool {
	return r.Redundancy < 0 || r.Redundancy > redundancyLimit.Milliseconds()
}

// add takes over another call's runs.
func (r *results) add(other results) {
	r.Machine = other.Machine
	r.Runs = append(r.Runs, other.Runs...)
}

// of are the runs of one row.
func (r results) of(row string) []result {
	return slices.DeleteFunc(slices.Clone(r.Runs), func(x result) bool { return x.Row != row })
}

func readResults(path string) (results, error) {
	var r results
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read results: %w", err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("read results from %s: %w", path, err)
	}
	return r, nil
}

// write replaces the file in one step: a call that is interrupted must not cost the results of hours.
func (r results) write(path string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// thisMachine measures what the figures of this call depend on.
func thisMachine() (machine, error) {
	file, err := os.Create(filepath.Join(os.TempDir(), fmt.Sprintf("matrix-fsync-%d", os.Getpid())))
	if err != nil {
		return machine{}, fmt.Errorf("measure fsync: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // a few kB in the directory for such things
	defer file.Close()
	page := make([]byte, 8192)
	var took []time.Duration
	for i := range 51 {
		began := time.Now()
		if _, err := file.WriteAt(page, int64(i*len(page))); err != nil {
			return machine{}, fmt.Errorf("measure fsync: %w", err)
		}
		if err := file.Sync(); err != nil {
			return machine{}, fmt.Errorf("measure fsync: %w", err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return machine{Cores: runtime.NumCPU(), FsyncMS: took[len(took)/2].Seconds() * 1000}, nil
}
