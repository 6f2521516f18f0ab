package witnessd_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/witnessd/witnessd/witnessd"
)

// position is how an error of the decoder says where: by line and column, or by the key.
var position = regexp.MustCompile(`\[\d+:\d+\]|^fencing\.timeout or webhooks\.timeout: `)

// FuzzConfig reads any text as a node's configuration. What is refused says where or what in words; what is taken
// can be printed and read again as the same, and no duration in it can break what rests on it.
func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../deploy/config/witnessd.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	const one = "node: n1\nnodes:\n- {id: n1, raft: 'n1:7400', api: 'n1:7401'}\n"
	for _, more := range []string{
		"", "fencing: {command: [fence], timeout: 1m}\n", "fencing: {timeout: -1s}\n", "fencing: {timeout: 9999999h}\n",
		"colour: red\n", "node: n2\n", "raft: {profile: wide}\nlog: {level: debug, format: json}\n", "join: maybe\n",
		"http: [", "nodes: *x\n", "a: &a [*a]\n", "http: {listen: ''}\n", "\t", "node: !!binary x\n", "? x\n: y\n",
		"webhooks: [{name: w, url: 'https://x', secret_file: /s, events: [ARMED], pairs: ['p*'], timeout: 2s}]\n",
		"webhooks: [{timeout: 1x}]\n", "webhooks: [{name: w, url: ':', events: [X], pairs: ['']}]\n", "webhooks: {}\n",
	} {
		f.Add([]byte(one + more))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := witnessd.ParseConfig(raw)
		if err != nil {
			var into witnessd.Config
			inText := yaml.Unmarshal(raw, &into) != nil
			if strings.TrimSpace(err.Error()) == "" || inText && !position.MatchString(err.Error()) {
				t.Fatalf("refused without saying where: %v", err)
			}
			return
		}
		if bad := c.Validate(); len(bad) > 0 || c.Fencing.Timeout < time.Second || c.Fencing.Timeout > time.Minute {
			t.Fatalf("took %+v: %v", c, bad)
		}
		printed, err := c.Print()
		if err != nil {
			t.Fatalf("%+v cannot be printed: %v", c, err)
		}
		again, err := witnessd.ParseConfig([]byte(printed))
		if err != nil || !reflect.DeepEqual(normal(again), normal(c)) {
			t.Fatalf("%+v was printed as\n%s\nand read as %+v, %v", c, printed, again, err)
		}
	})
}

// normal makes an absent list and an empty one the same.
func normal(c witnessd.Config) witnessd.Config {
	if len(c.Nodes) == 0 {
		c.Nodes = nil
	}
	if len(c.Fencing.Command) == 0 {
		c.Fencing.Command = nil
	}
	return c
}
