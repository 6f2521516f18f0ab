package model

import "strings"

// message is what instances say to each other over their endpoints: gob, one after the other. Kinds of mirroring are in
// the files that handle them; what a field means depends on the kind.
type message struct {
	Kind     string
	Session  string // mirroring_guid
	Database string

	Role      int8
	Seq       int32
	LSN       LSN
	Forks     []forkAt
	Records   []record
	Number    int  // of a configuration or a claim, so that an answer can be told from an older one
	Cut       bool // the log after LSN is to go
	State     int8
	Suspend   bool
	Synced    bool
	Exposed   bool
	Force     bool
	Alive     bool
	Witness   string
	HasQuorum bool // the principal sees its witness
	Safety    int8
	SafetySeq int32
	Timeout   int32
	Name      string // @@SERVERNAME
	Other     string // endpoint of the other partner
	Error     *Error
	Body      []byte // of availability groups
}

// hello opens a connection, in both directions.
type hello struct {
	From string // address by which others know the endpoint
	To   string
	Name string
	Role string // PARTNER, WITNESS or ALL
}

// Kinds that belong to no session.
const (
	kindPing  = "ping"
	kindGroup = "group"
)

// address makes host:port of what people write, which is TCP://host:port.
func address(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	return strings.TrimPrefix(text, "tcp://")
}

// url is an address as SQL Server shows it.
func url(address string) string {
	if address == "" {
		return ""
	}
	return "TCP://" + address
}

// fold is a database's name as it is compared.
func fold(name string) string { return strings.ToLower(name) }
