package rpc

import (
	"github.com/witnessd/witnessd/witnessd/pair"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// What one instance may report of its databases: they are in the leader's memory for each pair, and in each answer to
// whoever looks at it.
const (
	maxDatabases    = 200
	maxSets         = 8
	maxDatabaseName = 128 // characters of SQL Server's names are as many
)

func fromDatabases(list []pair.Database) []*witnessv1.DatabaseState {
	var out []*witnessv1.DatabaseState
	for _, d := range list {
		out = append(out, &witnessv1.DatabaseState{
			Name: d.Name, Sets: d.Sets, Role: d.Role, Status: d.Status, Detail: d.Detail,
		})
	}
	return out
}

func toDatabases(list []*witnessv1.DatabaseState) []pair.Database {
	var out []pair.Database
	for _, m := range list[:min(len(list), maxDatabases)] {
		d := pair.Database{
			Name: cutTo(oneLine(m.GetName()), maxDatabaseName),
			Role: cutTo(oneLine(m.GetRole()), maxName), Status: cutTo(oneLine(m.GetStatus()), maxName),
			Detail: cutTo(oneLine(m.GetDetail()), maxHookText),
		}
		for _, s := range m.GetSets()[:min(len(m.GetSets()), maxSets)] {
			d.Sets = append(d.Sets, cutTo(oneLine(s), maxName))
		}
		out = append(out, d)
	}
	return out
}
