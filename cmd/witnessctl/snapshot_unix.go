//go:build unix

package main

import (
	"errors"
	"os"
)

// syncDir makes a rename last: without it a crash could bring the older file back.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
