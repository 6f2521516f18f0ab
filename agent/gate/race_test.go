//go:build race

package gate

// raceDetector: it keeps several times the memory.
const raceDetector = true
