package main

// restores are mistakes about a witness that was restored from a backup (R15).
func restores() []mutant {
	return []mutant{
		{"restored-decides-at-once", "R15", "The backup says who is primary.",
			one(applyFile, `	if r.Stage == StageReady {
		r.Stage = StageRestored
	}
`, ""),
			[]try{scenario("TestRestoredWitness")}},
		{"restored-does-not-wait", "R15", "Both agents have reported; nothing more will come.",
			one(verdictFile,
				"q.require(waited >= longest, \"one longest lease",
				"q.require(waited >= 0, \"one longest lease"),
			[]try{scenario("TestRestoredWitness")}},
		{"restored-without-a-file", "R15", "The host that answers is the one that lives.",
			one(verdictFile,
				"q.require(s.Heard && s.Report.FileKnown || w.spoken[i],",
				"q.require(s.Heard && s.Report.FileKnown || w.Seen[1-i].Heard || w.spoken[i],"),
			[]try{scenario("TestRestoredWitness")}},
		{"adopted-in-the-same-epoch", "R15", "The primary and its epoch are what they were.",
			one(verdictFile,
				"return Adopt{Epoch: epoch + unheard + 1,",
				"return Adopt{Epoch: max(epoch+unheard, r.Epoch+1),"),
			[]try{sim()}},
		{"adopted-as-leased", "R15", "The record said leased when it was saved.",
			one(applyFile,
				"r.Stage, r.Epoch, r.Right, r.Procedure = StageReady, b.Epoch, RightSole, nil",
				"r.Stage, r.Epoch, r.Procedure = StageReady, b.Epoch, nil"),
			[]try{sim()}},
		{"generation-not-raised", "R15", "Revisions go on from where the backup ends.",
			one(applyFile, `	r.Revision = NewRevision(b.Generation)
`, ""),
			[]try{scenario("TestRestoredWitness")}},
		{"ahead-of-the-record", "R15", "The record is the truth, whatever an agent remembers.",
			one(stepFile,
				"if s.Report.Epoch > r.Epoch || s.Report.Revision > r.Revision {",
				"if s.Report.Epoch > r.Epoch+1<<40 {"),
			[]try{scenario("TestRestoredWitness")}},
		{"spoken-for-and-back", "R15", "An operator has spoken for the lost host, so it does not come back.",
			one(verdictFile, `			unheard = epochsUnheard
`, ""),
			[]try{scenario("TestRestoredWitness")}},
	}
}
