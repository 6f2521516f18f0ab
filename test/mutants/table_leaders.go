package main

const (
	officeFile  = "witnessd/arbiter/office.go"
	arbiterFile = "witnessd/arbiter/arbiter.go"
)

// leaders are mistakes about who may speak for the witness, and what a new leader knows (R2, R4, R13).
func leaders() []mutant {
	return []mutant{
		{"confirmed-by-late-answers", "R2", "A message is numbered when its answer is there; then it is known to count.",
			one("raftstore/transport.go",
				"\tnumber := t.confirm.number()\n\terr := t.NetworkTransport.AppendEntries(id, address, request, response)\n",
				"\terr := t.NetworkTransport.AppendEntries(id, address, request, response)\n\tnumber := t.confirm.number()\n"),
			[]try{whole("TestLateAnswersConfirmNothing")}},
		{"answers-unconfirmed", "R2", "The log says that this node leads; that is confirmation enough.",
			one("witnessd/arbiter/confirm.go", "if q.mark > mark {", "if q.mark > mark && !leading {"),
			[]try{whole("TestLateAnswersConfirmNothing")}},
		{"office-before-the-barrier", "R2", "Raft tells of a leadership when it is one.",
			one("raftstore/lead.go", "return nil, s.raft.Barrier(s.timing.RPC).Error()", "return nil, nil"),
			[]try{whole("TestNoGrantBeforeTheBarrier")}},
		{"no-grace", "R4", "A new leader has granted nothing, so there is nothing to wait for.",
			one(watchFile, "LeaseUntil: now.Add(r.LongestLease)", "LeaseUntil: now"),
			[]try{scenario("TestWhatHappensWhen"), sim()}},
		{"watch-survives-its-term", "R4", "A leader that leads again knows all pairs already, and need not wait.",
			[]edit{
				{arbiterFile, "\to := open(ctx, a.options, term)\n", `	o := open(ctx, a.options, term)
	for id, w := range a.kept {
		if d := o.dockets[id]; d != nil {
			w.Term, w.Pending = term, pair.Pending{}
			d.watch = w
		}
	}
`},
				{arbiterFile, "\to.close()\n", `	o.close()
	a.kept = map[pair.ID]pair.Watch{}
	for id, d := range o.dockets {
		a.kept[id] = d.watch
	}
`},
				{arbiterFile, "\toptions Options\n\n\tmu ", "\toptions Options\n\tkept    map[pair.ID]pair.Watch\n\n\tmu "},
			},
			[]try{whole("TestWatchEndsWithItsTerm")}},
		{"promotion-is-no-grant", "R4", "The new primary gets its first lease when it asks for one.",
			one(stepFile, "\t\tw.LeaseUntil = now.Add(r.LongestLease)\n", ""),
			[]try{scenario("TestForcedFailover"), sim()}},
		{"step-clock-from-the-log", "R13", "The procedure says when it was started, so any leader can tell when it is late.",
			one(procedureFile, "late := now.Sub(w.step.Since) >= p.Timeout", "late := now.Sub(Instant(p.Started)*1e6) >= p.Timeout"),
			[]try{scenario("TestForcedFailover")}},
		{"procedure-not-resumed", "R13", "The clock of a step starts when the step is applied.",
			[]edit{
				{stepFile, "\tw = followProcedure(r, w, now)\n\tw = followPolicy", "\tw = followPolicy"},
				{stepFile, "\tw.Pending = Pending{}\n\tif r.Epoch != e.Before.Epoch {",
					"\tw.Pending = Pending{}\n\tw = followProcedure(r, w, now)\n\tif r.Epoch != e.Before.Epoch {"},
				{procedureFile, "late := now.Sub(w.step.Since) >= p.Timeout",
					"late := w.step.ID == p.ID && now.Sub(w.step.Since) >= p.Timeout"},
			},
			[]try{sim()}},
	}
}
