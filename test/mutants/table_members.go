package main

// members are mistakes about which hosts are of a pair (R16).
func members() []mutant {
	return []mutant{
		{"mirror-replaced-in-the-same-epoch", "R16", "The primary stays, so its epoch does.",
			one(applyFile, `	r.Mirror = b.Member.Host
	r.Epoch++
`, `	r.Mirror = b.Member.Host
`),
			[]try{scenario("TestHostsOfAPairChange")}},
		{"mirror-replaced-while-leased", "R16", "The new mirror will catch up.",
			one(applyFile, `	case r.Right != RightSole:
		return Fact{}, refuse(ReasonRightSole,`, `	case r.Right == 0:
		return Fact{}, refuse(ReasonRightSole,`),
			[]try{scenario("TestHostsOfAPairChange")}},
		{"primary-knows-its-mirror", "R16", "The primary hears of its new mirror with its next heartbeat.",
			one(applyFile, `	r.Members[r.index(r.Primary)].LinkAddress = ""
`, ""),
			[]try{scenario("TestHostsOfAPairChange")}},
		{"formed-on-a-busy-instance", "R16", "A new pair has an epoch of its own.",
			one(verdictFile, "q.require(s.Heard && !s.Report.OtherRight,", "q.require(s.Heard,"),
			[]try{scenario("TestMutantsOfForming")}},
		{"formed-without-a-file", "R16", "Both hosts are heard, so the pair can begin.",
			one(verdictFile,
				"q.require(s.Heard && s.Report.FileKnown, string(m.Host)+\" knows of the pair\"",
				"q.require(s.Heard, string(m.Host)+\" knows of the pair\""),
			[]try{scenario("TestForming")}},
		{"removed-without-a-word", "R16", "The operator wants the pair gone; the host will hear of it.",
			one(procedureFile, "case late && r.Procedure.HostOff == r.Primary:", "case late:"),
			[]try{scenario("TestMutantsOfOrders")}},
		{"let-go-while-leased", "R16", "The pair is being removed; its database is nobody's business any more.",
			[]edit{
				{operateFile, `	case s.wantHeld(now):
`, `	case s.ask == AskUnmanage:
		return OpLetGo
	case s.wantHeld(now):
`},
			},
			[]try{scenario("TestHostsOfAPairChange")}},
		{"forgotten-and-open", "R16", "What is not managed any more is left as it is.",
			one(holdFile,
				"copying := s.engine.Running && s.engine.Role == RoleMirror; !copying && !s.allowed {",
				"copying := true; !copying && !s.allowed {"),
			[]try{scenario("TestMutantsOfForgetting")}},
	}
}
