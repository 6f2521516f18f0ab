package whole

import (
	"runtime/debug"
	"testing"
)

// TestMain lets more garbage gather than usual: the stacks of thousands of waiting goroutines are most of what a
// collection has to look at, and there is little else.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}
