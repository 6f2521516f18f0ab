package whole

import (
	"context"
	"encoding/gob"
	"net"
	"time"
)

const (
	// silence is how long one end of a replication connection hears nothing before it gives it up.
	silence = 1500 * time.Millisecond
	// reassure is how often a primary without news says that it is there.
	reassure = 500 * time.Millisecond
	// reattach is how soon a mirror tries again.
	reattach = 200 * time.Millisecond
)

// hello is what a mirror says first: what it is, and what it has.
type hello struct {
	Host   string
	System string // empty: no data
	Eras   []era
	Length int
}

// changes is what a primary sends. The first message also says what to keep and whose log this is.
type changes struct {
	Refused string
	System  string
	Eras    []era
	Keep    int
	IDs     []uint64
}

// flush is what a mirror answers: how much it has on disk.
type flush struct{ Length int }

// feed is the primary's end of a mirror's connection.
type feed struct {
	conn    net.Conn
	from    string // the mirror's host
	sent    int
	flushed int
	news    chan struct{}
}

func (f *feed) kick() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// accept takes mirrors in until the process ends.
func (d *database) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f := &feed{conn: conn, news: make(chan struct{}, 1)}
		d.w.mu.Lock()
		if d.listener != l || !d.running {
			d.w.mu.Unlock()
			_ = conn.Close()
			return
		}
		d.feeds[f] = true
		d.w.mu.Unlock()
		d.tasks.Go(func() { d.serve(f) })
	}
}

// serve is one mirror's connection, from its hello to its end.
func (d *database) serve(f *feed) {
	defer func() {
		_ = f.conn.Close()
		f.kick()
		d.w.mu.Lock()
		defer d.w.mu.Unlock()
		delete(d.feeds, f)
		if d.feed == f {
			d.feed = nil
		}
	}()
	in, out := gob.NewDecoder(f.conn), gob.NewEncoder(f.conn)
	_ = f.conn.SetReadDeadline(time.Now().Add(silence))
	var h hello
	if in.Decode(&h) != nil {
		return
	}
	first := d.welcome(f, h)
	if out.Encode(first) != nil || first.Refused != "" {
		return
	}
	ended := make(chan struct{})
	d.tasks.Go(func() {
		defer f.conn.Close()
		d.send(f, out, ended)
	})
	defer close(ended)
	for {
		_ = f.conn.SetReadDeadline(time.Now().Add(silence))
		var m flush
		if in.Decode(&m) != nil {
			return
		}
		d.w.mu.Lock()
		if d.feed == f {
			f.flushed = m.Length
			d.flushed()
		}
		d.w.mu.Unlock()
	}
}

// welcome takes a mirror as the one that is counted, or refuses it.
func (d *database) welcome(f *feed, h hello) changes {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	switch {
	case !d.open() || d.hung || d.draining:
		return changes{Refused: "not a primary"}
	case h.System != "" && h.System != d.system:
		return changes{Refused: "foreign"}
	}
	f.from, f.sent = h.Host, d.shared(h.Eras, h.Length)
	d.feed = f
	f.kick()
	return changes{System: d.system, Eras: d.eras, Keep: f.sent}
}

// send streams the log until the connection or the process ends.
func (d *database) send(f *feed, out *gob.Encoder, ended <-chan struct{}) {
	ticker := time.NewTicker(reassure)
	defer ticker.Stop()
	for {
		select {
		case <-f.news:
		case <-ticker.C:
		case <-ended:
			return
		}
		d.w.mu.Lock()
		hung := d.hung
		news := changes{IDs: d.log[f.sent:]}
		if !hung {
			f.sent = len(d.log)
		}
		d.w.mu.Unlock()
		if hung {
			continue
		}
		if out.Encode(news) != nil {
			return
		}
	}
}

// receiver is the mirror's side: it attaches again and again until it is told not to.
type receiver struct {
	upstream string
	live     bool   // changes stream in
	refused  string // by the upstream, at the last try
	stop     context.CancelFunc
}

// follow begins to receive from an upstream. Called with world.mu held.
func (d *database) follow(upstream string) {
	d.unfollow()
	ctx, stop := context.WithCancel(context.Background())
	r := &receiver{upstream: upstream, stop: stop}
	d.receiver = r
	d.tasks.Go(func() {
		for ctx.Err() == nil {
			d.receive(ctx, r)
			d.w.mu.Lock()
			r.live = false
			d.w.mu.Unlock()
			select {
			case <-time.After(reattach):
			case <-ctx.Done():
			}
		}
	})
}

// unfollow ends that. Called with world.mu held.
func (d *database) unfollow() {
	if d.receiver != nil {
		d.receiver.stop()
		d.receiver = nil
	}
}

func (d *database) receive(ctx context.Context, r *receiver) {
	dialling, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := d.net.Dial(dialling, r.upstream)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	d.w.mu.Lock()
	h := hello{Host: d.name, Eras: d.eras, Length: len(d.log)}
	if d.data {
		h.System = d.system
	}
	d.w.mu.Unlock()
	in, out := gob.NewDecoder(conn), gob.NewEncoder(conn)
	if out.Encode(h) != nil {
		return
	}
	for first := true; ; first = false {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		var m changes
		if in.Decode(&m) != nil {
			return
		}
		length, ok := d.take(ctx, r, m, first)
		if !ok || out.Encode(flush{Length: length}) != nil {
			return
		}
	}
}

// take puts changes on the disk. While the process hangs it waits.
func (d *database) take(ctx context.Context, r *receiver, m changes, first bool) (length int, ok bool) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for d.hung && d.receiver == r {
		d.w.mu.Unlock()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
		d.w.mu.Lock()
	}
	if d.receiver != r {
		return 0, false
	}
	if r.refused = m.Refused; m.Refused != "" {
		return 0, false
	}
	if first {
		d.rewind(m.Keep)
		d.eras, d.system = m.Eras, m.System
		return len(d.log), true
	}
	d.log = append(d.log, m.IDs...)
	d.data, r.live = true, true
	return len(d.log), true
}
