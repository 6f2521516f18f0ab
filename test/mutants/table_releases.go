package main

// releases are mistakes about giving an epoch back (R9).
func releases() []mutant {
	return []mutant{
		{"release-not-final", "R9", "A database that is up again may go on with its lease.",
			one(holdFile, "s.File.Primary == s.Self && s.File.Released < s.File.Epoch", "s.File.Primary == s.Self"),
			[]try{scenario("TestWhatHappensWhen")}},
		{"release-not-on-disk", "R9 R7", "The witness is told; it will not forget.",
			one(releaseFile, "\ts.save(o)\n\to.note(true, \"epoch %d released\", s.File.Epoch)\n", "\to.note(true, \"epoch %d released\", s.File.Epoch)\n"),
			[]try{whole("TestReleasedStaysReleased")}},
		{"released-before-it-stopped", "R9", "The database is on its way down; the mirror can begin.",
			one(releaseFile, "\tif !s.release.stopped {\n\t\treturn\n\t}\n", ""),
			[]try{sim()}},
		{"stopped-is-everything", "R9", "A database that was stopped in order has sent everything.",
			one(operateFile, "s.release.everything = e.Everything", "s.release.everything = true"),
			[]try{sim()}},
		{"release-by-hearsay-of-another-epoch", "R9", "The primary has released; of which epoch can only be the last.",
			one(stepFile, "\tif epoch != r.Epoch || epoch == 0 {\n", "\tif epoch == 0 {\n\t\treturn w, nil\n\t}\n\tif epoch = r.Epoch; epoch == 0 {\n"),
			[]try{scenario("TestRelease"), sim()}},
		{"reinstated-in-the-same-epoch", "R9", "The primary stays the same, so its epoch does.",
			one(applyFile, "\tr.Epoch++\n\treturn r.fact(FactReinstated", "\treturn r.fact(FactReinstated"),
			[]try{scenario("TestRelease"), sim()}},
		{"promise-not-ended-by-a-release", "R9", "A promise is a promise.",
			one(recordFile, "\tif s.promiseOf <= epoch && now < s.promise {\n\t\ts.promise = now\n\t}\n", ""),
			[]try{scenario("TestWhatHappensWhen")}},
		{"everything-is-forgotten", "R9 R5", "What the mirror hears from its partner is what the partner said last.",
			one(stepFile, "w.ReleasedEverything = w.ReleasedEverything || everything", "w.ReleasedEverything = everything"),
			[]try{scenario("TestMutantsOfOrders")}},
	}
}
