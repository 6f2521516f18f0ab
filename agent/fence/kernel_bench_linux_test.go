package fence

import (
	"io"
	"testing"
	"time"
)

// BenchmarkKernelRenewal is from Open to the kernel's answer: two transactions.
func BenchmarkKernelRenewal(b *testing.B) {
	w := newWorld(b)
	k := w.open(w.options())
	guard(b, k, w.service("main"))
	for b.Loop() {
		openFor(b, k, time.Minute)
	}
	b.ReportMetric(float64(k.Stats().LongestDelay.Microseconds()), "longest-µs")
}

// BenchmarkKernelTraffic is what the rules cost those who pass: words back and forth, and a stream, from
// another host.
func BenchmarkKernelTraffic(b *testing.B) {
	for name, fenced := range map[string]bool{"without": false, "with": true} {
		w := newWorld(b)
		w.host.serve(servicePort)
		if fenced {
			k := w.open(w.options())
			guard(b, k, w.service("main"))
			k.Open("main", Right{Endless: true})
			settle(b, k, "main")
		}
		c, err := w.client.dial(w.host.at(servicePort))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		b.Run("words/"+name, func(b *testing.B) {
			for b.Loop() {
				if err := talk(c); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("stream/"+name, func(b *testing.B) {
			_ = c.SetDeadline(time.Time{})
			chunk := make([]byte, 64<<10)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				go func() { _, _ = c.Write(chunk) }()
				if _, err := io.ReadFull(c, make([]byte, len(chunk))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
