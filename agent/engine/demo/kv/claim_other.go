//go:build !unix

package kv

import (
	"errors"
	"os"
)

func lockRecord(*os.File) error { return errors.ErrUnsupported }

func recordOwner(*os.File) (int, error) { return 0, errors.ErrUnsupported }
