package main

// files are mistakes about the mirror's promise and what an agent must not forget (R7).
func files() []mutant {
	return []mutant{
		{"promise-not-kept", "R7", "The witness has waited for the promise before it promoted.",
			one(holdFile, "if now < s.promise || !s.open {", "if !s.open {"),
			[]try{sim()}},
		{"promise-forgotten-at-a-start", "R7", "A new start has promised nothing.",
			one(holdFile, "s.promise, s.promiseOf = now.Add(file.Longest), file.Epoch", "s.promiseOf = file.Epoch"),
			[]try{whole("TestPromiseOutlivesTheAgent")}},
		{"promise-of-one-lease-at-a-start", "R7 R12", "A promise is as long as a lease.",
			one(holdFile, "now.Add(file.Longest), file.Epoch", "now.Add(file.Timing.Lease), file.Epoch"),
			[]try{scenario("TestMutantsOfPromises")}},
		{"primary-promises-nothing", "R7", "Whoever is primary by the file has not promised anything to anybody.",
			one(holdFile, "!(file.Primary == self && mark.Epoch == file.Epoch)", "file.Primary != self"),
			[]try{scenario("TestMutantsOfPromises")}},
		{"no-file-no-promise", "R7", "Without a file this host was never a mirror.",
			one(recordFile, `s.promise, s.promiseOf = s.Started.Add(e.Longest), e.Epoch
		if`, `s.promiseOf = e.Epoch
		if`),
			[]try{scenario("TestMutantsOfPromises")}},
		{"file-after-acting", "R7", "A disk is slow; what is urgent goes first.",
			one(holdFile, `	return s, o.actions
`, `	var urgent, files []Action
	for _, a := range o.actions {
		if _, save := a.(Save); save {
			files = append(files, a)
		} else {
			urgent = append(urgent, a)
		}
	}
	return s, append(urgent, files...)
`),
			[]try{scenario("TestMutantsOfOrder")}},
		{"file-in-the-background", "R7", "The loop must not wait for a disk; the file will be written soon enough.",
			one("agent/loop.go", `		if err := i.file.save(act.File); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafe, err)
		}
`,
				`		go func() {
			if err := i.file.save(act.File); err != nil {
				i.log.ErrorContext(ctx, "save", "error", err)
			}
		}()
`),
			[]try{whole("TestEpochIsOnDiskFirst")}},
		{"file-that-failed-is-tried-again", "R7",
			"A disk that is full is mended some day; the next change is saved again.",
			one("agent/loop.go", `		if err := i.file.save(act.File); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafe, err)
		}
`,
				`		if err := i.file.save(act.File); err != nil {
			i.log.ErrorContext(ctx, "save", "error", err)
		}
`),
			[]try{whole("TestEpochIsOnDiskFirst")}},
		{"lease-of-a-stranger", "R7 R16", "Whoever answers on the link is the partner.",
			[]edit{
				{partnerFile, " || e.Host != s.File.Mirror {", " {"},
				{partnerFile, `func (s *State) partnerAnswered(e PartnerAnswered, now Instant, o *out) {
	if !s.Known || e.Host != s.File.Peer.Host {`,
					`func (s *State) partnerAnswered(e PartnerAnswered, now Instant, o *out) {
	if !s.Known {`},
			},
			[]try{scenario("TestMutantsOfPromises")}},
		{"lower-epoch-believed", "R7 R11 R15", "The witness knows better than a file.",
			[]edit{
				{recordFile, `	if s.Known && e.Epoch < s.File.Epoch {
		// The partner has told us of a later epoch; this answer is older than that.
		return
	}
`, ""},
				{recordFile, `	if e.Epoch > s.File.Epoch || !s.Known {
`, `	if e.Epoch != s.File.Epoch || !s.Known {
`},
			},
			[]try{sim()}},
		{"loss-of-the-right-by-silence", "R11 R7",
			"A host that the witness does not vouch for should not go by its partner's word alone.",
			one(partnerFile, "|| e.Host != s.File.Mirror {", "|| e.Host != s.File.Mirror || !s.witnessed(now) {"),
			[]try{scenario("TestWhatHappensWhen")}},
	}
}
