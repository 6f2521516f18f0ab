package arbiter

import (
	"github.com/witnessd/witnessd/witnessd/pair"
)

// fence runs the configured fencing command beside the loop and reports how it ended.
func (o *Office) fence(d *docket, f pair.RunFence) {
	id, procedure := d.record.ID, d.record.Procedure
	done := pair.FenceDone{Procedure: f.Procedure}
	if o.Fence == nil || procedure == nil {
		done.Detail = "no fencing command is configured"
		o.work.Go(func() { o.fenced(id, done) })
		return
	}
	o.Logger.Warn("fencing command started", "pair", d.record.Name, "host", string(f.Host), "procedure", f.Procedure)
	o.work.Go(func() {
		err := o.Fence(o.ctx, f.Host, *procedure)
		if done.OK = err == nil; !done.OK {
			done.Detail = err.Error()
		}
		o.fenced(id, done)
	})
}

func (o *Office) fenced(id pair.ID, done pair.FenceDone) {
	o.send(o.ctx, func() {
		if d := o.dockets[id]; d != nil {
			o.Logger.Warn("fencing command ended", "pair", d.record.Name, "done", done.OK, "detail", done.Detail)
			o.step(d, done)
		}
	})
}
