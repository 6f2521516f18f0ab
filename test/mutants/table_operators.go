package main

// operators are mistakes about what is done because somebody asked for it (R13, R14).
func operators() []mutant {
	return []mutant{
		{"forced-over-a-silent-sole-primary", "R14", "The operator has accepted the loss; that is what he was asked.",
			[]edit{
				{procedureFile, `	case r.Right == RightSole && silent && wish.HostOff == "" && !wish.CanFence:
`,
					`	case r.Right == RightSole && silent && wish.HostOff == "" && !wish.CanFence && !wish.AcceptLoss:
`},
				{procedureFile, `	case p.HostOff == r.Primary:
		return step(StepWithhold,`, `	case p.AcceptLoss:
		return step(StepWithhold,`},
			},
			[]try{scenario("TestForcedFailover")}},
		{"forced-while-the-mirror-hears-the-primary", "R14",
			"The operator says that the host is off; the agent may run without it.",
			[]edit{
				{verdictFile, "q.require(s.Heard && !s.Report.HearsPartner, \"mirror does not hear the primary\",",
					"q.require(s.Heard, \"mirror does not hear the primary\","},
				{procedureFile, `	case r.Right == RightSole && silent && mirror.Heard && mirror.Report.HearsPartner:
`,
					`	case r.Right == RightSole && silent && !mirror.Heard && mirror.Report.HearsPartner:
`},
			},
			[]try{scenario("TestForcedFailover")}},
		{"forced-while-the-witness-hears-the-primary", "R14", "The primary was asked to release, and did not.",
			one(verdictFile,
				"q.require(!w.fresh(r, r.Primary, now), \"witness does not hear",
				"q.require(true, \"witness does not hear"),
			[]try{scenario("TestMutantsOfOrders")}},
		{"failed-fence-is-a-fence", "R14", "The fencing command has ended.",
			one(procedureFile, "case w.fence.done && w.fence.ok:", "case w.fence.done:"),
			[]try{scenario("TestForcedFailover")}},
		{"leases-not-withheld", "R14", "A primary that still asks for leases is well; it will release.",
			one(stepFile, `	case withheld(r):
		a.Refused = ReasonWithheld
`, ""),
			[]try{scenario("TestForcedFailover")}},
		{"mirror-does-not-withhold", "R14", "The witness withholds its leases; that ends the primary.",
			one(partnerFile, "case s.ask == AskWithhold && s.askEpoch == s.File.Epoch && e.Says.Revision <= s.File.Revision:",
				"case s.ask == AskWithhold && s.askEpoch > s.File.Epoch:"),
			[]try{scenario("TestForcedFailover")}},
		{"epoch-that-the-operator-saw", "R14",
			"The operator wants the other host; what he saw when he typed it is past.",
			one(procedureFile, "case e.Epoch != 0 && e.Epoch != r.Epoch:", "case e.Epoch > r.Epoch:"),
			[]try{scenario("TestMutantsOfOrders")}},
		{"abort-without-reinstatement", "R13 R9", "The switchover has ended; the primary will go on by itself.",
			one(procedureFile, `	case now.Sub(w.ReleasedAt) >= r.LongestLease:
		return fmt.Sprintf("epoch %d was released and %s could not be promoted"`,
				`	case r.Last == nil && now.Sub(w.ReleasedAt) >= r.LongestLease:
		return fmt.Sprintf("epoch %d was released and %s could not be promoted"`),
			[]try{scenario("TestRelease")}},
	}
}
