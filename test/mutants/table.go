package main

// table is all mutants, by what they are about.
func table() []mutant {
	var all []mutant
	for _, part := range [][]mutant{
		leases(), leaders(), promotions(), files(), rights(), releases(), starts(), operators(), restores(), members(),
	} {
		all = append(all, part...)
	}
	return all
}

// The files in which mistakes are planted.
const (
	watchFile     = "witnessd/pair/watch.go"
	stepFile      = "witnessd/pair/step.go"
	applyFile     = "witnessd/pair/apply.go"
	commandFile   = "witnessd/pair/command.go"
	verdictFile   = "witnessd/pair/verdict.go"
	procedureFile = "witnessd/pair/procedure.go"
	holdFile      = "agent/hold/hold.go"
	recordFile    = "agent/hold/record.go"
	partnerFile   = "agent/hold/partner.go"
	commitsFile   = "agent/hold/commits.go"
	releaseFile   = "agent/hold/release.go"
	operateFile   = "agent/hold/operate.go"
)

// one is a mistake in one place.
func one(file, old, replacement string) []edit { return []edit{{file, old, replacement}} }
