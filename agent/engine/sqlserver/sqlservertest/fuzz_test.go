package sqlservertest

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// No text makes the tokenizer or the parser panic or run for ever, and tokens lie in the text one after the other.
func FuzzParse(f *testing.F) {
	for _, s := range sqlserver.Statements() {
		f.Add(s.Text())
	}
	for _, s := range []string{
		"SELECT TOP (3) a.*, b.c + -1 [x] FROM app..t a LEFT JOIN sys.databases AS b ON a.v LIKE N'%[ab]_' WHERE NOT a.v IN (1, 'x''') ORDER BY 1 DESC",
		"/* a /* b */ c */ INSERT t (a, [b]]c]) VALUES (1, NULL), (@p1, 0.5) -- end", "UPDATE t SET a = a + 1, b = 'x' WHERE c IS NOT NULL;",
		"CREATE TABLE [a].[b] (id int NOT NULL PRIMARY KEY, v nvarchar(max) DEFAULT ('x'))", "DELETE t", "USE a; BEGIN TRAN; COMMIT; ROLLBACK",
		"CREATE AVAILABILITY GROUP g WITH (CLUSTER_TYPE = EXTERNAL) FOR DATABASE a, b REPLICA ON N'x' WITH (ENDPOINT_URL = N'TCP://h:1', SECONDARY_ROLE (ALLOW_CONNECTIONS = ALL))",
		"WAITFOR DELAY '00:00:01.5' SET NOCOUNT ON DECLARE @x int = 1 PRINT 'x' SHUTDOWN WITH NOWAIT", "'", "[", "\"", "/*", "--", "@", "((((", "\xff\xfe",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		tokens, err := lex(sql)
		if err == nil {
			last := 0
			for _, token := range tokens {
				if token.at < last || token.at > len(sql) {
					t.Errorf("a token at %d, after one at %d, in %d bytes", token.at, last, len(sql))
				}
				last = token.at
			}
		}
		batch, err := parse(sql)
		if err != nil {
			return
		}
		at := &scope{vars: map[string]any{}, call: func(string, []any) (any, error) { return nil, nil }}
		for _, one := range batch {
			if q, ok := one.(query); ok && q.where != nil && at.check(q.where) == nil {
				//nolint:errcheck // whatever it says, it must not panic
				at.evaluate(q.where)
			}
		}
	})
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		text, pattern string
		want          bool
	}{
		{"SQLServer:Database Mirroring", "%:Database Mirroring%", true},
		{"SQLServer:Databases", "%:Database Mirroring%", false},
		{"abc", "ABC", true},
		{"abc", "a_c", true},
		{"abc", "a_", false},
		{"", "%", true},
		{"", "_", false},
		{"aaab", "%a%b", true},
		{"witness_1", "witness[_]%", true},
		{"witnessx1", "witness[_]%", false},
		{"[", "[[]", true},
		{"a[b", "a[b", true},
		{strings.Repeat("a", 2000), strings.Repeat("%a", 200) + "b", false},
	} {
		if got := like(c.text, c.pattern); got != c.want {
			t.Errorf("%.40q LIKE %.40q: got %v", c.text, c.pattern, got)
		}
	}
}
