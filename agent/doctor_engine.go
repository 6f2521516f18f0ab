package agent

import (
	"context"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// examinePatience bounds the examination of one instance: a hanging database must not hang the doctor.
const examinePatience = time.Minute

// examine lets the engine of an instance say what it lacks, after mending it if that is asked for.
func (a *Agent) examine(ctx context.Context, c Instance, options DoctorOptions) []Finding {
	ctx, cancel := context.WithTimeout(ctx, examinePatience)
	defer cancel()
	examiner, err := newExaminer(c)
	if err != nil {
		return []Finding{Finding{Check: c.Name}.bad(err, "see the message")}
	}
	if examiner == nil {
		return nil
	}
	defer examiner.Close()
	partner := a.partnerOf(c.Name, options)
	var found []Finding
	if options.Fix {
		found = mended(c.Name, examiner.Mend(ctx, partner, options.DryRun), options.DryRun)
	}
	for _, check := range examiner.Examine(ctx, partner) {
		found = append(found, Finding{
			Check: c.Name + ": " + check.Name, Result: Result(check.Grade), Detail: oneLine(check.Detail), Do: check.Do,
		})
	}
	return found
}

// mended tells what was done.
func mended(instance string, all []engine.Mended, dry bool) []Finding {
	word := "fixed"
	if dry {
		word = "would fix"
	}
	var found []Finding
	for _, m := range all {
		f := Finding{Check: instance + ": " + word, Result: Good, Detail: m.What + ": " + m.How}
		if m.Err != nil {
			f.Check = instance + ": not fixed"
			f = f.bad(m.Err, m.What+" by hand: "+m.How)
		}
		found = append(found, f)
	}
	return found
}

// partnerOf is the address of the partner's instance, as far as it is known; "" otherwise.
func (a *Agent) partnerOf(instance string, options DoctorOptions) string {
	if address, ok := options.Partners[instance]; ok {
		return address
	}
	if address := options.Partners[""]; address != "" {
		return address
	}
	if file, known, err := a.epochFileOf(instance).load(); err == nil && known {
		return file.Peer.ServiceAddress
	}
	return ""
}
