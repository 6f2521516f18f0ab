package raftstore

import "sync"

// A bell wakes everybody who waits, by one close of a channel, however many they are. It tells only that
// something changed; the woken look for themselves, so a ring that nobody waits for need not be kept.
type bell struct {
	mu   sync.Mutex
	next chan struct{} // nil while nobody has asked
}

// rung returns a channel that the next ring closes. Take it before looking at what may have changed.
func (b *bell) rung() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
