// Package witnessd_test keeps the shape of the module: who may import whom, what a directory may be called,
// and where generated code lives. Rules like these decay by one harmless exception after the other, so each
// says why it is there, and an exception is a change of the table that a reviewer sees.
//
// It needs nothing but the go command, so it also fails where no linter is installed.
package witnessd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/witnessd/witnessd"

// A row says what the packages that match it may import themselves. Packages of this module are written
// without the module's path; "dir/..." stands for dir and all below it. A row that names the package counts
// before one that includes it, and of several that include it the longest.
//
// Packages below test/ and packages whose name ends in "test" have no row: they may import anything.
type row struct {
	packages string
	ours     []string // of this module
	libs     []string // of other modules
	std      []string // nil: all of the standard library
	why      string
}

// A ban forbids what row.libs and row.ours would let in by way of another package.
type ban struct {
	from, on string
	why      string
}

// Modules that several rows name.
const (
	anyLib     = "*"
	grpc       = "google.golang.org/grpc/..."
	protobuf   = "google.golang.org/protobuf/..."
	rpcErrors  = "google.golang.org/genproto/googleapis/rpc/..."
	prometheus = "github.com/prometheus/client_golang/..."
	yaml       = "github.com/goccy/go-yaml/..."
	systemd    = "github.com/coreos/go-systemd/..."
	cobra      = "github.com/spf13/..."
	goTeam     = "golang.org/x/..."

	publicAPI  = "proto/gen/witness/v1"
	privateLog = "proto/gen/witnesslog/v1"
)

// pure is all that a package needs that only decides.
var pure = []string{
	"cmp", "errors", "fmt", "iter", "maps", "math", "slices", "strconv", "strings", "time",
}

// deterministic names the packages that must give the same answer to the same input, on every node and in
// every replay. They may speak of time, never ask for it: see impurities.
var deterministic = []string{"witnessd/pair", "witnessd/ledger", "agent/hold"}

var table = []row{
	{packages: ".", why: "the root holds rules about the module, no code"},
	{
		packages: "proto/gen/...", ours: []string{"proto/gen/..."}, libs: []string{grpc, protobuf},
		why: "generated: it knows the wire and nothing of us",
	},

	// The witness.
	{
		packages: "witnessd/pair", std: pure,
		why: "deciding is a pure function of its arguments: no clock, no file, no network, no log",
	},
	{
		packages: "raftstore",
		libs: []string{
			"github.com/hashicorp/...", "go.etcd.io/bbolt", prometheus, goTeam,
		},
		why: "a replicated log one can propose to; what is in it is not its business",
	},
	{
		packages: "witnessd/ledger", ours: []string{"witnessd/pair", privateLog}, libs: []string{protobuf},
		why: "every node must come to the same state from the same log, whatever surrounds it; " +
			"only it knows the log's format, which is for ever",
	},
	{
		packages: "witnessd/journal", ours: []string{"witnessd/pair"}, libs: []string{prometheus},
		why: "it says what happened in the words of pair; whoever wants to hear it subscribes",
	},
	{
		packages: "witnessd/arbiter", ours: []string{"witnessd/pair", "witnessd/ledger", "witnessd/journal"},
		why: "it owns the clock and the watches; the log and the network are handed to it as small " +
			"interfaces of its own, so that a test can be both",
	},
	{
		packages: "witnessd/rpc",
		ours:     []string{"witnessd/pair", "witnessd/ledger", "witnessd/journal", publicAPI},
		libs:     []string{grpc, protobuf, rpcErrors, prometheus, goTeam},
		why: "it converts and asks; the arbiter is an interface that it declares, so that no decision " +
			"can move to the edge",
	},
	{
		packages: "witnessd/webhook", ours: []string{"witnessd/pair", "witnessd/ledger"}, libs: []string{prometheus},
		why: "it tells others what is in the history; whether they listen decides nothing",
	},
	{
		packages: "witnessd/dashboard", ours: []string{"witnessd/pair", "witnessd/journal"},
		why: "it shows values; what it cannot reach it cannot change",
	},
	{
		packages: "witnessd", ours: []string{"witnessd/...", "raftstore", publicAPI},
		libs: []string{grpc, protobuf, prometheus, yaml, systemd, goTeam},
		why:  "it puts the parts of the witness together; it knows nothing of databases",
	},

	// The host's side.
	{
		packages: "agent/hold", std: pure,
		why: "whether a host may serve is a pure function of its arguments: no clock, no file, no network, no log",
	},
	{
		packages: "agent/engine", libs: []string{goTeam},
		why: "what an agent asks of any database; an engine's library here would be in all of them",
	},
	{
		packages: "agent/engine/...", ours: []string{"agent/engine"}, libs: []string{anyLib},
		why: "an engine brings the library of its database; it obeys, and knows no other engine",
	},
	{
		packages: "agent/engine/sqlserver", ours: []string{"agent/engine", "agent/engine/sqlserver/service"},
		libs: []string{anyLib},
		why:  "what the three engines for SQL Server share; only here the driver is known",
	},
	{
		packages: "agent/engine/sqlserver/service", ours: []string{"agent/engine"}, libs: []string{goTeam},
		why: "it knows processes and nothing of databases",
	},
	{
		packages: "agent/engine/sqlserver/...",
		ours:     []string{"agent/engine", "agent/engine/sqlserver", "agent/engine/sqlserver/service"}, libs: []string{goTeam},
		why: "an engine speaks of SQL Server in the words of its parent, and knows no other engine",
	},
	{
		packages: "agent/engine/demo", ours: []string{"agent/engine", "agent/engine/demo/kv"}, libs: []string{goTeam},
		why: "demodb is our own database: the engine speaks its protocol",
	},
	{
		packages: "agent/engine/demo/kv", libs: []string{goTeam},
		why: "a database knows nothing of who decides about it",
	},
	{
		packages: "agent/fence", ours: []string{"agent/hold"},
		libs: []string{
			"github.com/google/nftables/...", "github.com/mdlayher/...", systemd, goTeam,
		},
		why: "a fence closes at an instant it is given; it must work when nothing else does",
	},
	{
		packages: "agent/gate", ours: []string{"agent/hold"},
		libs: []string{prometheus, "github.com/pires/go-proxyproto", goTeam},
		why:  "it passes bytes while a right lasts; where to is told to it, and whose they are it does not know",
	},
	{
		packages: "agent/hook",
		why:      "it runs an administrator's commands; nothing that the right rests on may wait for it",
	},
	{
		packages: "agent/watchdog", libs: []string{systemd, goTeam},
		why: "it is fed by the loop, and by nothing that could turn while the loop does not",
	},
	{
		packages: "agent/link", ours: []string{"agent/hold", publicAPI},
		libs: []string{grpc, protobuf, rpcErrors, goTeam},
		why:  "it turns messages into values and back; what they mean is decided in hold",
	},
	{
		packages: "agent", ours: []string{"agent/..."},
		libs: []string{prometheus, yaml, systemd, "github.com/google/uuid", goTeam},
		why:  "it puts the parts of the host's side together; it speaks to others only through agent/link",
	},

	// The programs.
	{
		packages: "cmd/witnessd/...", ours: []string{"cmd/witnessd/...", "witnessd"}, libs: []string{cobra, goTeam},
		why: "a main is a page: flags, signals, and the one package that it runs",
	},
	{
		packages: "cmd/witness-agent/...", ours: []string{"cmd/witness-agent/...", "agent"},
		libs: []string{cobra, goTeam},
		why:  "a main is a page: flags, signals, and the one package that it runs",
	},
	{
		packages: "cmd/demodb/...", ours: []string{"agent/engine/demo/kv"}, libs: []string{cobra, goTeam},
		why: "a demonstration database; it knows neither witness nor agent",
	},
	{
		packages: "cmd/witnessctl/...", ours: []string{"cmd/witnessctl/...", publicAPI},
		libs: []string{cobra, grpc, protobuf, rpcErrors, yaml, goTeam},
		why:  "whatever it can do, anyone's program can do over the same API",
	},
}

var bans = []ban{
	{"witnessd/...", "agent/...", "the two sides meet in proto/witness/v1 only: an agent of another release " +
		"must be able to talk to this witness, and shared code would hide that it cannot"},
	{"agent/...", "witnessd/...", "the two sides meet in proto/witness/v1 only: a witness of another release " +
		"must be able to talk to this agent, and shared code would hide that it cannot"},
	{"agent/...", "github.com/hashicorp/raft/...", "a host takes no part in the witness's agreement"},
	{"raftstore", "witnessd/...", "a replicated log that knew pairs could not be tested without them"},
	{"witnessd/pair", "proto/gen/...", "the rules do not change with a message's format"},
	{"witnessd/ledger", grpc, "the log is read where no network is: by restore, by tests, by a debugger"},
	{"witnessd/arbiter", grpc, "a decision does not depend on how the question came"},
	{"witnessd/arbiter", "github.com/hashicorp/raft/...", "only raftstore knows Raft; its traps are avoided there once"},
	{"witnessd/rpc", "github.com/hashicorp/raft/...", "only raftstore knows Raft; its traps are avoided there once"},
	{"agent/engine/...", grpc, "an engine talks to its database and to nobody else"},
	{"agent/engine/...", protobuf, "an engine talks to its database and to nobody else"},
	{"agent/fence/...", grpc, "a fence that needs the network does not close without it"},
	{"cmd/witnessctl/...", "witnessd/...", "it must run on a laptop and talk to witnesses of another release"},
	{"cmd/witnessctl/...", "agent/...", "it must run on a laptop and talk to agents of another release"},
	{"cmd/witness-agent/...", "witnessd/...", "a database host carries no witness"},
	{"cmd/witnessd/...", "agent/...", "a witness carries no database driver"},
}

// TestImports holds the module against the table, for both systems that we build for: a file for Windows
// only has imports too.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		t.Run(goos, func(t *testing.T) {
			for _, v := range violations(table, bans, imports(t, goos)) {
				t.Error(v)
			}
		})
	}
}

// TestDeterministic reads the source of the packages that must not depend on anything but their arguments.
func TestDeterministic(t *testing.T) {
	for _, v := range impurities(os.DirFS("."), deterministic) {
		t.Error(v)
	}
}

// TestLayout looks at the tree: names, package comments, generated code.
func TestLayout(t *testing.T) {
	for _, v := range misplaced(os.DirFS(".")) {
		t.Error(v)
	}
}

// graph is what each package imports itself, tests aside. Packages of this module go by their path in it.
type graph map[string][]string

// imports asks the go command for the module's packages and for all that they need.
func imports(t *testing.T, goos string) graph {
	t.Helper()
	// -e: a package that does not build is the compiler's to report.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps",
		"-json=ImportPath,GoFiles,CgoFiles,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	g := graph{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath                 string
			GoFiles, CgoFiles, Imports []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatalf("read what go list printed: %v", err)
		}
		if len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue // tests only
		}
		for i, imported := range p.Imports {
			p.Imports[i] = name(imported)
		}
		g[name(p.ImportPath)] = p.Imports
	}
}

// name takes the module's path off a package of ours and marks that with "./", so that none of our names
// can be taken for one of the standard library. The root is ".".
func name(importPath string) string {
	if importPath == module {
		return "."
	}
	if rest, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return "./" + rest
	}
	return importPath
}

func isOurs(pkg string) bool { return pkg == "." || strings.HasPrefix(pkg, "./") }

func isStd(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !isOurs(pkg) && !strings.Contains(first, ".")
}

// isTestPackage: made for tests, like witnessd/witnesstest.
func isTestPackage(pkg string) bool {
	// What lies below such a package belongs to it.
	return isOurs(pkg) && pkg != "./test" && slices.ContainsFunc(strings.Split(pkg, "/"), func(part string) bool {
		return strings.HasSuffix(part, "test") && part != "test"
	})
}

// isFree: a whole-system test or a package made for tests.
func isFree(pkg string) bool {
	return isTestPackage(pkg) || matches("./test/...", pkg)
}

// matches compares a package with a pattern of the table.
func matches(pattern, pkg string) bool {
	if pattern == anyLib {
		return true
	}
	if isOurs(pkg) && pkg != "." {
		pattern = "./" + strings.TrimPrefix(pattern, "./")
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pkg == pattern
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// violations is every way in which g breaks the rows and the bans, in a stable order.
func violations(rows []row, bans []ban, g graph) []string {
	var found []string
	for _, pkg := range slices.Sorted(maps.Keys(g)) {
		if !isOurs(pkg) || isFree(pkg) {
			continue
		}
		r, ok := rowOf(rows, pkg)
		if !ok {
			found = append(found, pkg+" has no row in the import table: say what it may import, and why")
			continue
		}
		for _, imported := range g[pkg] {
			if why := r.refuses(imported); why != "" {
				found = append(found, fmt.Sprintf("%s must not import %s: %s", pkg, imported, why))
			}
		}
		for _, b := range bans {
			if !matches(b.from, pkg) {
				continue
			}
			if chain := g.chain(pkg, b.on); chain != nil {
				way := strings.Join(chain, ", which needs ")
				found = append(found, fmt.Sprintf("%s must not need %s: %s", pkg, way, b.why))
			}
		}
	}
	return found
}

func rowOf(rows []row, pkg string) (row, bool) {
	var best row
	for _, r := range rows {
		if !matches(r.packages, pkg) {
			continue
		}
		if !strings.HasSuffix(r.packages, "/...") {
			return r, true
		}
		if len(r.packages) > len(best.packages) {
			best = r
		}
	}
	return best, best.packages != ""
}

// refuses says why a package of row r must not import another, or "".
func (r row) refuses(imported string) string {
	allowed := false
	switch {
	case isTestPackage(imported), matches("testing/...", imported):
		return "only _test.go files, test/ and packages made for tests may"
	case isOurs(imported):
		allowed = matchesAny(r.ours, imported)
	case isStd(imported):
		allowed = r.std == nil || slices.Contains(r.std, imported)
	default:
		allowed = matchesAny(r.libs, imported)
	}
	if allowed {
		return ""
	}
	return r.why
}

// chain is the shortest way from a package to one that matches on, without the first; nil if there is none.
func (g graph) chain(from, on string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g[queue[0]] {
			if _, seen := before[next]; seen {
				continue
			}
			before[next] = queue[0]
			queue = append(queue, next)
			if !matches(on, next) {
				continue
			}
			var way []string
			for at := next; at != from; at = before[at] {
				way = append(way, at)
			}
			slices.Reverse(way)
			return way
		}
	}
	return nil
}

// impure are the names that a deterministic package must not mention, by import path. Nil stands for the
// whole package.
var impure = map[string][]string{
	"time": {
		"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local",
	},
	"fmt":          {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"math/rand":    nil,
	"math/rand/v2": nil,
	"crypto/rand":  nil,
}

// impurities reads the packages in dirs and finds what would make them give two answers to one question.
// A directory that is not there is pure.
func impurities(tree fs.FS, dirs []string) []string {
	var found []string
	for _, dir := range dirs {
		files, err := fs.Glob(tree, path.Join(dir, "*.go"))
		if err != nil {
			return append(found, err.Error())
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			fset, parsed, err := parse(tree, file, parser.SkipObjectResolution)
			if err != nil {
				found = append(found, err.Error())
				continue
			}
			for _, i := range impuritiesOf(parsed) {
				found = append(found, fmt.Sprintf("%s: %s: the same input must always give the same output",
					fset.Position(i.pos), i.what))
			}
		}
	}
	return found
}

type impurity struct {
	pos  token.Pos
	what string
}

func impuritiesOf(file *ast.File) []impurity {
	var found []impurity
	banned := map[string][]string{} // by the name that the file gives the import
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		names, listed := impure[importPath]
		local := path.Base(importPath)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		switch {
		case listed && (names == nil || local == "."):
			found = append(found, impurity{spec.Pos(), "import of " + importPath})
		case listed:
			banned[local] = names
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, impurity{n.Pos(), "go statement"})
		case *ast.SelectorExpr:
			if from, ok := n.X.(*ast.Ident); ok && slices.Contains(banned[from.Name], n.Sel.Name) {
				found = append(found, impurity{n.Pos(), from.Name + "." + n.Sel.Name})
			}
		}
		return true
	})
	return found
}

func parse(tree fs.FS, file string, mode parser.Mode) (*token.FileSet, *ast.File, error) {
	source, err := fs.ReadFile(tree, file)
	if err != nil {
		return nil, nil, err
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, source, mode)
	return fset, parsed, err
}

// namesOfNothing say that a package has no idea of its own: everything fits in, so everything ends up there.
var namesOfNothing = []string{
	"common", "helper", "helpers", "misc", "shared", "types", "util", "utils",
}

const generated = "proto/gen"

// misplaced walks the tree and finds directories without a subject, packages that do not say what they are
// for, and generated code mixed with our own.
func misplaced(tree fs.FS) []string {
	var found []string
	documented := map[string]bool{} // by directory of Go files
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(tree, file, d.Name()) {
				return fs.SkipDir
			}
			if slices.Contains(namesOfNothing, d.Name()) {
				found = append(found, file+": the name says nothing: name it after its subject")
			}
			return nil
		}
		inGenerated := strings.HasPrefix(file, generated+"/")
		if wrong := misplacedFile(tree, file, inGenerated); wrong != "" {
			found = append(found, file+": "+wrong)
		}
		if inGenerated || path.Ext(file) != ".go" {
			return nil
		}
		_, parsed, err := parse(tree, file, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			found = append(found, err.Error())
			return nil
		}
		if slices.Contains(namesOfNothing, parsed.Name.Name) {
			found = append(found, file+": the package's name says nothing: name it after its subject")
		}
		dir := path.Dir(file)
		documented[dir] = documented[dir] || describes(parsed)
		return nil
	})
	if err != nil {
		found = append(found, err.Error())
	}
	for _, dir := range slices.Sorted(maps.Keys(documented)) {
		if !documented[dir] {
			found = append(found, dir+": no package comment: say what one can do with it")
		}
	}
	return found
}

// skipped: not part of this module.
func skipped(tree fs.FS, dir, base string) bool {
	if dir == "." {
		return false
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil || base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

// misplacedFile says what is wrong with where a file is, or "".
func misplacedFile(tree fs.FS, file string, inGenerated bool) string {
	if !inGenerated {
		if strings.HasSuffix(file, ".pb.go") {
			return "generated from a schema, so it belongs below " + generated
		}
		return ""
	}
	source, err := fs.ReadFile(tree, file)
	if err != nil {
		return err.Error()
	}
	if !strings.HasSuffix(file, ".pb.go") || !bytes.HasPrefix(source, []byte("// Code generated by protoc-gen-go")) {
		return "written by hand: the next `make generate` deletes it"
	}
	return ""
}

// describes: the file carries a package comment in the form that go doc expects.
func describes(file *ast.File) bool {
	text := file.Doc.Text()
	return text != "" && (file.Name.Name == "main" || strings.HasPrefix(text, "Package "+file.Name.Name+" "))
}

// TestTable: a rule without a reason is the first to be broken.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table {
		if r.why == "" {
			t.Errorf("the row of %s gives no reason", r.packages)
		}
		if seen[r.packages] {
			t.Errorf("%s has two rows", r.packages)
		}
		seen[r.packages] = true
	}
	for _, b := range bans {
		if b.why == "" {
			t.Errorf("the ban of %s from %s gives no reason", b.on, b.from)
		}
	}
}

// TestViolations plants one fault after the other.
func TestViolations(t *testing.T) {
	rows := []row{
		{packages: "pure", std: []string{"time"}, why: "pure decides"},
		{packages: "pure/sub", why: "sub is below"},
		{packages: "store", libs: []string{"example.com/raft/..."}, why: "store knows no pairs"},
		{packages: "server", ours: []string{"store", "pure"}, why: "server puts together"},
		{packages: "agent/...", ours: []string{"agent/..."}, libs: []string{anyLib}, why: "agents obey"},
		{packages: "agent/engine/...", libs: []string{anyLib}, why: "engines know no other engine"},
		{packages: "agent/engine", why: "engine is only an interface"},
	}
	bans := []ban{{"agent/...", "server", "no witness on a host"}, {"server", "example.com/net", "no network"}}
	tests := []struct {
		name string
		g    graph
		want string // a part of the only violation; "" for none
	}{
		{"nothing there", graph{}, ""},
		{"all allowed", graph{"./server": {"./store", "os"}, "./store": {"example.com/raft/bolt"}}, ""},
		{"standard package too many", graph{"./pure": {"time", "os"}}, "./pure must not import os: pure decides"},
		{"library too many", graph{"./pure": {"example.com/x"}}, "must not import example.com/x"},
		{"library of a similar name", graph{"./store": {"example.com/raftx"}}, "must not import example.com/raftx"},
		{"one of ours too many", graph{"./store": {"./pure"}}, "./store must not import ./pure: store knows no pairs"},
		{"an exact row", graph{"./pure/sub": {"os"}}, ""},
		{"an exact row before a longer one", graph{"./agent/engine": {"example.com/x"}}, "engine is only an interface"},
		{"the longest row", graph{"./agent/engine/x": {"./agent/engine/y"}}, "engines know no other engine"},
		{"any library", graph{"./agent/engine/x": {"example.com/x"}}, ""},
		{"below an exact row", graph{"./server/new": {"os"}}, "./server/new has no row"},
		{"ours, named like a standard package", graph{"./store": {"./time"}}, "must not import ./time"},
		{"test package", graph{"./server": {"./store/storetest"}}, "only _test.go files"},
		{"testing", graph{"./server": {"testing/synctest"}}, "only _test.go files"},
		{"test packages are free", graph{"./store/storetest": {"testing", "./pure"}}, ""},
		{"whole-system tests are free", graph{"./test/demo": {"./agent", "./store/storetest"}}, ""},
		{
			"ban, by way of a library",
			graph{"./server": {"./store"}, "./store": {"example.com/raft"}, "example.com/raft": {"example.com/net"}},
			"./server must not need ./store, which needs example.com/raft, which needs example.com/net: no network",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, violations(rows, bans, tt.g), tt.want) })
	}
}

// TestImpurities plants what a deterministic package must not hold.
func TestImpurities(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"a duration", `import "time"; const d = 3 * time.Second; func f(now time.Duration) {}`, ""},
		{"the clock", `import "time"; var t = time.Now()`, "p/p.go:1:35: time.Now"},
		{"the clock by another name", `import clock "time"; var now = clock.Since`, "clock.Since"},
		{"the clock without a name", `import . "time"; var t = Now()`, "import of time"},
		{"waiting", `import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"chance", `import "math/rand/v2"; var x = rand.Int()`, "import of math/rand/v2"},
		{"a method called Now", `type c struct{}; func (c) Now() {}; func f(time c) { time.Now() }`, ""},
		{"a goroutine", `func f() { go f() }`, "go statement"},
		{"printing", `import "fmt"; func f() { fmt.Println() }`, "fmt.Println"},
		{"formatting", `import "fmt"; func f() string { return fmt.Sprint() }`, ""},
		{"not Go", `func {`, "expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{
				"p/p.go":      {Data: []byte("package p; " + tt.source)},
				"p/p_test.go": {Data: []byte(`package p; import "time"; var t = time.Now()`)},
			}
			expect(t, impurities(tree, []string{"p", "missing"}), tt.want)
		})
	}
}

// TestMisplaced plants files where they do not belong.
func TestMisplaced(t *testing.T) {
	const byTool = "// Code generated by protoc-gen-go. DO NOT EDIT.\npackage v1"
	tests := []struct{ name, file, source, want string }{
		{"good", "pair/doc.go", "// Package pair decides.\npackage pair", ""},
		{"good command", "cmd/x/main.go", "// Witnessd is a node.\npackage main", ""},
		{"comment above something else", "pair/doc.go", "// Copyright.\n\npackage pair", "pair: no package comment"},
		{"comment of another package", "pair/doc.go", "// Package pairs decides.\npackage pair", "no package comment"},
		{"build tag is no comment", "pair/doc.go", "//go:build linux\n\npackage pair", "no package comment"},
		{"directory of nothing", "pair/util/doc.go", "// Package clean is.\npackage clean", "pair/util: the name"},
		{"package of nothing", "pair/doc.go", "// Package types is.\npackage types", "pair/doc.go: the package's name"},
		{"generated", "proto/gen/v1/x.pb.go", byTool, ""},
		{"by hand in gen", "proto/gen/v1/x.go", "package v1", "proto/gen/v1/x.go: written by hand"},
		{"by hand in gen, disguised", "proto/gen/v1/x.pb.go", "package v1", "written by hand"},
		{"generated elsewhere", "pair/x.pb.go", "// Package pair is.\npackage pair", "belongs below proto/gen"},
		{"another module", "tools/util/x.go", "package util", ""},
		{"test data", "pair/testdata/x.go", "package x", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{tt.file: {Data: []byte(tt.source)}, "tools/go.mod": {}, "go.mod": {}}
			expect(t, misplaced(tree), tt.want)
		})
	}
}

// expect compares what a check found with the one fault that was planted.
func expect(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("found %q, want nothing", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("found %q, want only %q", got, want)
	}
}
