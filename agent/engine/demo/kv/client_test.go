package kv

import (
	"errors"
	"testing"
	"time"
)

// A client finds the primary among several addresses and again after a failover.
func TestClientFindsPrimary(t *testing.T) {
	a, b := start(t, newDir(t)), start(t, t.TempDir())
	promote(t, a)
	follow(t, b, a)
	ctx := testContext(t)
	client, err := Dial(ctx, "127.0.0.1:1", b.address(), a.address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Set(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	if client.Address() != a.address() {
		t.Errorf("connected to %s", client.Address())
	}
	a.Kill()
	promote(t, b)
	if err := b.Alone(); err != nil {
		t.Fatal(err)
	}
	// The connection died, so the client cannot know; it says so once and then finds the new primary.
	if err := client.Set(ctx, "b", "1"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("set on a dead connection: %v", err)
	}
	if err := client.Set(ctx, "b", "1"); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Count(ctx, ""); err != nil || n != 2 {
		t.Errorf("count %d %v", n, err)
	}
	if v, ok, err := client.Get(ctx, "none"); v != "" || ok || err != nil {
		t.Errorf("get: %q %v %v", v, ok, err)
	}
	if n, err := client.Increment(ctx, "a"); err != nil || n != 2 {
		t.Errorf("increment: %d %v", n, err)
	}
	if role, err := client.Role(ctx); err != nil || role != RolePrimary {
		t.Errorf("role %s %v", role, err)
	}
	if err := client.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
}

func TestClientGivesUp(t *testing.T) {
	mirror := start(t, newDir(t))
	ctx, cancel := contextFor(t, 200*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, mirror.address()); err == nil {
		t.Error("found a primary")
	}
	reader := &Client{Addresses: []string{mirror.address()}, Any: true}
	defer reader.Close()
	if role, err := reader.Role(testContext(t)); err != nil || role != RoleMirror {
		t.Errorf("role %s %v", role, err)
	}
}
