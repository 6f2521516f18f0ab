package main

// starts are mistakes about what a new start of an agent or a database may do (R10).
func starts() []mutant {
	return []mutant{
		{"restart-gate-off", "R10", "The lease lasts, so the database may be opened again at once.",
			one(holdFile, "if now < s.promise || !s.open {", "if now < s.promise {"),
			[]try{whole("TestRestartGate"), scenario("TestRestart")}},
		{"gate-opened-by-a-late-answer", "R10", "Any answer shows that the witness still agrees.",
			one(recordFile, "\tif sent >= s.gate {\n\t\ts.open = true\n\t}\n", "\ts.open = true\n"),
			[]try{sim()}},
		{"mark-opens-a-closed-database", "R10", "The mark says that this host may serve, so its database is brought up.",
			[]edit{
				{operateFile, "\tcase s.mark != Mark{}:\n\t\t// R10: what the former start left open runs on as it is; nothing is opened or changed on its strength.\n\t\treturn OpNone\n", ""},
				{commitsFile, "\tif s.mark != (Mark{}) && !(e.Running && e.Role == RolePrimary) {\n\t\t// R10: the mark is of a database that was open; this one is not.\n\t\ts.closeGate(now)\n\t}\n", ""},
			},
			[]try{scenario("TestRestart"), sim()}},
		{"runs-on-in-a-new-start", "R10", "A database that runs is left alone; its agent was only away for a moment.",
			one(holdFile, "\tcase s.allowed || s.engineOK && s.engine.Running && s.engine.Role == RolePrimary && s.File.Epoch > 0:\n", "\tcase s.allowed:\n"),
			[]try{sim()}},
	}
}
