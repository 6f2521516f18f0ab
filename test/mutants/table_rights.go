package main

// rights are mistakes about exposing and arming (R8).
func rights() []mutant {
	return []mutant{
		{"arm-not-as-leased", "R8", "The right becomes leased when the witness says so.",
			one(commitsFile, `	s.armSent = s.File.Revision
`, ""),
			[]try{sim()}},
		{"exposing-engine-is-given-time", "R8", "A mirror that is away for a moment is none of the record's business.",
			one(commitsFile, "s.engine.LossBound > 0 && s.hold.run == s.engine.Run &&",
				"s.engine.LossBound > 0 && s.hold.run == s.engine.Run && s.mirrorLost() &&"),
			[]try{scenario("TestTextScenarios")}},
		{"late-sole-believed", "R8", "What the witness says is so.",
			one(holdFile,
				"return s.heard && s.right == RightSole && s.File.Revision > s.armSent",
				"return s.heard && s.right == RightSole"),
			[]try{sim()}},
		{"older-answer-believed", "R8",
			"The newest answer is the one that came last; the file keeps the highest revision.",
			[]edit{
				{recordFile, `	if e.Revision >= s.File.Revision {
		s.takeRecord(e, o)
	}
`, `	s.takeRecord(e, o)
`},
				{recordFile,
					"= e.Name, e.Revision, e.Longest, e.Timing",
					"= e.Name, max(e.Revision, f.Revision), e.Longest, e.Timing"},
			},
			[]try{scenario("TestMutantsOfRights")}},
		{"new-start-believes-sole", "R8", "A new start has asked for nothing yet.",
			one(recordFile, `		s.armSent = max(s.armSent, e.Revision, s.File.Revision)
`, ""),
			[]try{scenario("TestMutantsOfRights")}},
		{"exposed-before-it-is-recorded", "R8", "The witness will agree; clients should not wait for it.",
			one(commitsFile, `	if !s.trustedSole() {
		return true
	}
`, `	if !s.trustedSole() {
		return s.request != RequestExpose
	}
`),
			[]try{sim()}},
		{"armed-while-the-mirror-follows", "R8", "A mirror that is attached receives everything.",
			one(commitsFile,
				"s.ask == AskNothing && s.hold.synced && !s.mirrorLost()",
				"s.ask == AskNothing && s.engine.MirrorAttached && !s.mirrorLost()"),
			[]try{sim()}},
		{"held-over-a-restart", "R8", "Commits were seen to hold once; a restart does not change the configuration.",
			one(commitsFile,
				"e.Commits != CommitsHeld || e.Run != h.run || !e.MirrorAttached:",
				"e.Commits != CommitsHeld || !e.MirrorAttached:"),
			[]try{scenario("TestEngineTrouble")}},
		{"position-before-the-hold", "R8", "Where the log ends does not depend on when it is looked at.",
			[]edit{
				{operateFile, "s.hold.run, s.hold.since, s.hold.based, s.hold.synced = e.Engine.Run, e.Engine.Began, false, false",
					"s.hold.run, s.hold.since, s.hold.based, s.hold.baseline = e.Engine.Run, 0, true, s.engine.MirrorFlushed"},
			},
			[]try{scenario("TestTextScenarios")}},
		{"new-primary-commits-alone", "R8", "The old primary is gone, so there is no mirror to wait for.",
			one(commitsFile, `	if !s.trustedSole() {
		return true
	}
`, `	if !s.trustedSole() {
		return !s.exposeNow
	}
`),
			[]try{sim()}},
		{"right-survives-the-epoch", "R8 R7", "Nothing was said about the right, so it is as it was.",
			one(recordFile, `	s.right, s.ask = RightUnknown, AskNothing
`, `	s.ask = AskNothing
`),
			[]try{scenario("TestMutantsOfRights")}},
		{"arm-of-another-revision", "R8", "The primary wants to arm; of which record does not matter.",
			one(stepFile,
				"rep.Epoch != r.Epoch || rep.RequestRevision != r.Revision || w.released(r)",
				"rep.Epoch != r.Epoch || w.released(r)"),
			[]try{scenario("TestHostsOfAPairChange")}},
		{"resume-arms", "R8", "A pair that is resumed was armed before it was paused.",
			one(applyFile, `	if b.Mode != ModeAutomatic {
		r.Right = RightSole
	}
`, `	r.Right = RightLeased
	if b.Mode != ModeAutomatic {
		r.Right = RightSole
	}
`),
			[]try{sim()}},
	}
}
