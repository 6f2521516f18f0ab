package main

// promotions are mistakes about when the right may move (R5, R6, R14).
func promotions() []mutant {
	return []mutant{
		{"apply-without-the-revision", "R6", "The leader decides one thing after the other; the log keeps the order.",
			one(applyFile, "case c.Revision != r.Revision:", "case c.Revision > r.Revision:"),
			[]try{scenario("TestMutantsOfRights")}},
		{"apply-without-the-term", "R6", "The revision says all: if it is the same, nothing has changed.",
			one(applyFile, "case c.Term != entry && !restore:", "case c.Term > entry && !restore:"),
			[]try{sim()}},
		{"promise-not-asked", "R5", "The primary's lease has run out, so it cannot be serving.",
			one(verdictFile, "promise := s.Heard && s.Report.Promise <= 0", "promise := s.Heard"),
			[]try{scenario("TestWhatHappensWhen")}},
		{"promise-of-an-older-term", "R5", "What the mirror says is true, whichever leader it has heard last.",
			one(verdictFile, "heard := s.Heard && s.Report.TermHeard == w.Term && s.Report.Epoch == r.Epoch",
				"heard := s.Heard && s.Report.Epoch == r.Epoch"),
			[]try{scenario("TestMutantsOfPromises")}},
		{"promise-of-an-older-epoch", "R5",
			"The mirror has heard this leader; the epoch it will hear with the promotion.",
			one(verdictFile, "heard := s.Heard && s.Report.TermHeard == w.Term && s.Report.Epoch == r.Epoch",
				"heard := s.Heard && s.Report.TermHeard == w.Term"),
			[]try{scenario("TestMutantsOfPromises")}},
		{"old-word-of-the-mirror", "R5", "The mirror has said that it is free; it will tell when that changes.",
			one(verdictFile, "fresh := w.fresh(r, r.Mirror, now)", "fresh := s.Heard"),
			[]try{scenario("TestWhatHappensWhen")}},
		{"lease-of-the-primary-not-asked", "R5", "The mirror has no promise out: the primary is gone.",
			one(verdictFile, "left := w.LeaseUntil.Sub(now)", "left := w.LeaseUntil.Sub(now) - r.LongestLease"),
			[]try{scenario("TestWhatHappensWhen")}},
		{"released-is-everything", "R5 R9",
			"A primary that has stopped and given its epoch back can be followed by its mirror.",
			one(verdictFile, `everything := w.released(r) && w.ReleasedEverything
	p :=`, `everything := w.released(r)
	p :=`),
			[]try{sim()}},
		{"accepted-loss-skips-the-lease", "R5 R14", "The operator has accepted the loss, and is in a hurry.",
			one(verdictFile, `	case w.released(r):
		q.requireLoss(true,`,
				`	case w.released(r) || r.Procedure != nil && r.Procedure.AcceptLoss:
		q.requireLoss(true,`),
			[]try{sim()}},
		{"accepted-loss-skips-the-promise", "R5 R14",
			"The operator knows that the primary is gone; the mirror's promise is to nobody.",
			one(verdictFile, "promise := s.Heard && s.Report.Promise <= 0",
				"promise := s.Heard && (s.Report.Promise <= 0 || r.Procedure != nil && r.Procedure.AcceptLoss)"),
			[]try{scenario("TestMutantsOfPromises")}},
		{"strict-is-not-asked", "R5", "The record says leased, so the mirror has everything.",
			one(verdictFile, "q.require(!e.NeedsRelease || w.released(r) || accepted,",
				"q.require(e.NeedsRelease || w.released(r) || accepted || e.LossBound > 0,"),
			[]try{scenario("TestTextScenarios")}},
		{"promoted-while-sole", "R5 R8", "Better an old copy than none.",
			one(verdictFile,
				"r.Right == RightLeased || everything || accepted,",
				"r.Right == RightLeased || everything || accepted || operatorAsked(r),"),
			[]try{sim()}},
	}
}
