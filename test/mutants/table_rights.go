package main

// rights are mistakes about exposing and arming (R8).
func rights() []mutant {
	return []mutant{
		{"arm-not-as-leased", "R8", "The right becomes leased when the witness says so.",
			one(commitsFile, "\ts.armSent = s.File.Revision\n", ""),
			[]try{sim()}},
		{"late-sole-believed", "R8", "What the witness says is so.",
			one(holdFile, "return s.heard && s.right == RightSole && s.File.Revision > s.armSent", "return s.heard && s.right == RightSole"),
			[]try{sim()}},
		{"older-answer-believed", "R8", "The newest answer is the one that came last; the file keeps the highest revision.",
			[]edit{
				{recordFile, "\tif e.Revision >= s.File.Revision {\n\t\ts.takeRecord(e, o)\n\t}\n", "\ts.takeRecord(e, o)\n"},
				{recordFile, "= e.Name, e.Revision, e.Longest, e.Timing", "= e.Name, max(e.Revision, f.Revision), e.Longest, e.Timing"},
			},
			[]try{scenario("TestMutantsOfRights")}},
		{"new-start-believes-sole", "R8", "A new start has asked for nothing yet.",
			one(recordFile, "\t\ts.armSent = max(s.armSent, e.Revision, s.File.Revision)\n", ""),
			[]try{scenario("TestRestart")}},
		{"exposed-before-it-is-recorded", "R8", "The witness will agree; clients should not wait for it.",
			one(commitsFile, "\tif !s.trustedSole() {\n\t\treturn true\n\t}\n", "\tif !s.trustedSole() {\n\t\treturn s.request != RequestExpose\n\t}\n"),
			[]try{sim()}},
		{"armed-while-the-mirror-follows", "R8", "A mirror that is attached receives everything.",
			one(commitsFile, "s.ask == AskNothing && s.hold.synced && !s.mirrorLost()", "s.ask == AskNothing && s.engine.MirrorAttached && !s.mirrorLost()"),
			[]try{sim()}},
		{"held-over-a-restart", "R8", "Commits were seen to hold once; a restart does not change the configuration.",
			one(commitsFile, "e.Commits != CommitsHeld || e.Run != h.run || !e.MirrorAttached:", "e.Commits != CommitsHeld || !e.MirrorAttached:"),
			[]try{sim()}},
		{"position-before-the-hold", "R8", "Where the log ends does not depend on when it is looked at.",
			[]edit{
				{operateFile, "s.hold.run, s.hold.since, s.hold.based, s.hold.synced = e.Engine.Run, e.Engine.Began, false, false",
					"s.hold.run, s.hold.since, s.hold.based, s.hold.baseline = e.Engine.Run, 0, true, s.engine.MirrorFlushed"},
			},
			[]try{sim()}},
		{"new-primary-commits-alone", "R8", "The old primary is gone, so there is no mirror to wait for.",
			one(commitsFile, "\tif !s.trustedSole() {\n\t\treturn true\n\t}\n", "\tif !s.trustedSole() {\n\t\treturn !s.exposeNow\n\t}\n"),
			[]try{sim()}},
		{"right-survives-the-epoch", "R8 R7", "Nothing was said about the right, so it is as it was.",
			one(recordFile, "\ts.right, s.ask = RightUnknown, AskNothing\n", "\ts.ask = AskNothing\n"),
			[]try{scenario("TestMutantsOfRights")}},
		{"arm-of-another-revision", "R8", "The primary wants to arm; of which record does not matter.",
			one(stepFile, "rep.Epoch != r.Epoch || rep.RequestRevision != r.Revision || w.released(r)", "rep.Epoch != r.Epoch || w.released(r)"),
			[]try{sim()}},
		{"resume-arms", "R8", "A pair that is resumed was armed before it was paused.",
			one(applyFile, "\tif b.Mode != ModeAutomatic {\n\t\tr.Right = RightSole\n\t}\n", "\tr.Right = RightLeased\n\tif b.Mode != ModeAutomatic {\n\t\tr.Right = RightSole\n\t}\n"),
			[]try{sim()}},
	}
}
