package main

// releases are mistakes about giving an epoch back (R9).
func releases() []mutant {
	return []mutant{
		{"release-not-final", "R9", "A database that is up again may go on with its lease.",
			one(holdFile, "s.File.Primary == s.Self && s.File.Released < s.File.Epoch", "s.File.Primary == s.Self"),
			[]try{scenario("TestMutantsOfOrders")}},
		{"release-not-on-disk", "R9 R7", "The witness is told; it will not forget.",
			one(releaseFile, `	s.save(o)
	o.note(true, "epoch %d released", s.File.Epoch)
`, `	o.note(true, "epoch %d released", s.File.Epoch)
`),
			[]try{whole("TestReleasedStaysReleased")}},
		{"released-before-it-stopped", "R9", "The database is on its way down; the mirror can begin.",
			one(releaseFile, `	if !s.release.stopped {
		return
	}
`, ""),
			[]try{scenario("TestMutantsOfOrders")}},
		{"stopped-is-everything", "R9", "A database that was stopped in order has sent everything.",
			one(operateFile, "s.release.everything = e.Everything", "s.release.everything = true"),
			[]try{sim()}},
		{"release-by-hearsay-of-another-epoch", "R9",
			"The primary has released; of which epoch can only be the last.",
			one(stepFile, `	if epoch != r.Epoch || epoch == 0 {
`, `	if epoch == 0 {
		return w, nil
	}
	if epoch = r.Epoch; epoch == 0 {
`),
			[]try{scenario("TestRelease")}},
		{"reinstated-in-the-same-epoch", "R9", "The primary stays the same, so its epoch does.",
			one(applyFile, `	r.Epoch++
	return r.fact(FactReinstated`, "\treturn r.fact(FactReinstated"),
			[]try{scenario("TestRelease")}},
		{"promise-not-ended-by-a-release", "R9", "A promise is a promise.",
			one(recordFile, `	if s.promiseOf <= epoch && now < s.promise {
		s.promise = now
	}
`, ""),
			[]try{scenario("TestWhatHappensWhen")}},
		{"everything-is-forgotten", "R9 R5", "What the mirror hears from its partner is what the partner said last.",
			one(stepFile,
				"w.ReleasedEverything = w.ReleasedEverything || everything",
				"w.ReleasedEverything = everything"),
			[]try{scenario("TestMutantsOfOrders")}},
	}
}
