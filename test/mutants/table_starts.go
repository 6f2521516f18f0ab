package main

// starts are mistakes about what a new start of an agent or a database may do (R10).
func starts() []mutant {
	return []mutant{
		{"restart-gate-off", "R10", "The lease lasts, so the database may be opened again at once.",
			one(holdFile, "if now < s.promise || !s.open {", "if now < s.promise {"),
			[]try{whole("TestRestartGate")}},
		{"gate-opened-by-a-late-answer", "R10", "Any answer shows that the witness still agrees.",
			one(recordFile, `	if sent >= s.gate {
		s.open = true
	}
`, `	s.open = true
`),
			[]try{scenario("TestMutantsOfRights")}},
		{"mark-opens-a-closed-database", "R10",
			"The mark says that this host may serve, so its database is brought up.",
			[]edit{
				{operateFile, `	case s.mark != Mark{}:
		// R10: what the former start left open runs on as it is; nothing is opened or changed on its strength.
		return OpNone
`, ""},
				{commitsFile, `	if s.mark != (Mark{}) && !(e.Running && e.Role == RolePrimary) {
		// R10: the mark is of a database that was open; this one is not.
		s.closeGate(now)
	}
`, ""},
			},
			[]try{scenario("TestRestart")}},
		{"runs-on-in-a-new-start", "R10", "A database that runs is left alone; its agent was only away for a moment.",
			one(holdFile, `	case s.allowed || s.engineOK && s.engine.Running && s.engine.Role == RolePrimary && s.File.Epoch > 0:
`, `	case s.allowed:
`),
			[]try{whole("TestRestartGate")}},
	}
}
