package main

const (
	officeFile  = "witnessd/arbiter/office.go"
	arbiterFile = "witnessd/arbiter/arbiter.go"
)

// leaders are mistakes about who may speak for the witness, and what a new leader knows (R2, R4, R13).
func leaders() []mutant {
	return []mutant{
		{"confirmed-by-late-answers", "R2",
			"A message is numbered when its answer is there; then it is known to count.",
			one("raftstore/transport.go",
				`	number := t.confirm.number()
	err := t.NetworkTransport.AppendEntries(id, address, request, response)
`,
				`	err := t.NetworkTransport.AppendEntries(id, address, request, response)
	number := t.confirm.number()
`),
			[]try{whole("TestLateAnswersConfirmNothing")}},
		{"answers-unconfirmed", "R2", "The log says that this node leads; that is confirmation enough.",
			one("witnessd/arbiter/confirm.go", "if q.mark > mark {", "if q.mark > mark && !leading {"),
			[]try{whole("TestLateAnswersConfirmNothing")}},
		{"office-before-the-barrier", "R2", "Raft tells of a leadership when it is one.",
			one("raftstore/lead.go", "return nil, s.raft.Barrier(s.timing.RPC).Error()", "return nil, nil"),
			[]try{whole("TestNoGrantBeforeTheBarrier")}},
		{"no-grace", "R4", "A new leader has granted nothing, so there is nothing to wait for.",
			one(watchFile, "LeaseUntil: now.Add(r.LongestLease)", "LeaseUntil: now"),
			[]try{sim()}},
		{"watch-survives-its-term", "R4", "A leader that leads again knows all pairs already, and need not wait.",
			[]edit{
				{arbiterFile, `	o := open(ctx, a.options, term)
`, `	o := open(ctx, a.options, term)
	for id, w := range a.kept {
		if d := o.dockets[id]; d != nil {
			w.Term, w.Pending = term, pair.Pending{}
			d.watch = w
		}
	}
`},
				{arbiterFile, `	o.close()
`, `	o.close()
	a.kept = map[pair.ID]pair.Watch{}
	for id, d := range o.dockets {
		a.kept[id] = d.watch
	}
`},
				{arbiterFile, `	options Options

	mu `, `	options Options
	kept    map[pair.ID]pair.Watch

	mu `},
			},
			[]try{whole("TestWatchEndsWithItsTerm")}},
		{"promotion-is-no-grant", "R4", "The new primary gets its first lease when it asks for one.",
			one(stepFile, `		w.LeaseUntil = now.Add(r.LongestLease)
`, ""),
			[]try{scenario("TestMutantsOfPromises")}},
		{"step-clock-from-the-log", "R13",
			"The procedure says when it was started, so any leader can tell when it is late.",
			one(procedureFile,
				"late := now.Sub(w.step.Since) >= p.Timeout",
				"late := now.Sub(Instant(p.Started)*1e6) >= p.Timeout"),
			[]try{scenario("TestForcedFailover")}},
		{"procedure-not-resumed", "R13", "The clock of a step starts when the step is applied.",
			[]edit{
				{stepFile, `	w = followProcedure(r, w, now)
	w = followPolicy`, "\tw = followPolicy"},
				{stepFile, `	w.Pending = Pending{}
	if r.Epoch != e.Before.Epoch {`,
					`	w.Pending = Pending{}
	w = followProcedure(r, w, now)
	if r.Epoch != e.Before.Epoch {`},
				{procedureFile, "late := now.Sub(w.step.Since) >= p.Timeout",
					"late := w.step.ID == p.ID && now.Sub(w.step.Since) >= p.Timeout"},
			},
			[]try{sim()}},
	}
}
