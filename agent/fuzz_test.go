package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/witnessd/witnessd/agent/hold"
)

// position is how an error of the decoder says where: line and column.
var position = regexp.MustCompile(`\[\d+:\d+\]`)

// FuzzConfig reads any text as an agent's configuration. What is refused says where or what in words; what is taken
// can be printed and read again as the same.
func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../deploy/config/witness-agent.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	const one = "host: a\nwitness: {endpoints: ['w:7401']}\nlink: {advertise: 'a:7412'}\ninstances:\n" +
		"- {name: main, engine: demo, demo: {data_dir: /data, listen: 'a:7480'}}\n"
	for _, more := range []string{
		"", "- {name: main, engine: demo}\n", "- {name: ../x, engine: oracle}\n", "- {colour: red}\n", "- name: [\n",
		"- {name: b, engine: postgres, postgres: {data_dir: /pg, listen: 'a:1', settings: {a: b}, rejoin: {keep_diverged: -1}}}\n",
		"- *x\n", "-\n", "- ~\n", "http: {listen: ''}\n", "log: {level: loud}\n",
	} {
		f.Add([]byte(one + more))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil {
			var into Config
			if inText := yaml.Unmarshal(raw, &into) != nil; err.Error() == "" || inText && !position.MatchString(err.Error()) {
				t.Fatalf("refused without saying where: %v", err)
			}
			return
		}
		if bad := c.Validate(); len(bad) > 0 {
			t.Fatalf("took %+v: %v", c, bad)
		}
		printed, err := c.Print()
		if err != nil {
			t.Fatalf("%+v cannot be printed: %v", c, err)
		}
		again, err := ParseConfig([]byte(printed))
		if err != nil {
			t.Fatalf("%+v was printed as\n%s\nand cannot be read: %v", c, printed, err)
		}
		if twice, err := again.Print(); err != nil || twice != printed {
			t.Fatalf("%+v was printed as\n%s\nand then as\n%s\n%v", c, printed, twice, err)
		}
	})
}

func realFile() hold.File {
	return hold.File{
		Pair: "id", Name: "payroll", Epoch: 7, Primary: "db1", Mirror: "db2", Revision: 40, Longest: 3 * time.Second,
		Released: 6, ReleasedEverything: true,
		Timing: hold.Timing{Heartbeat: 1, Lease: 2, Guard: 3, MirrorTimeout: 4},
		Peer:   hold.Peer{Host: "db2", Instance: "main", LinkAddress: "db2:1", ServiceAddress: "db2:2", SystemID: "x"},
	}
}

// FuzzEpochFile reads any bytes as an epoch file. They are taken only as a whole, and then mean the same when they
// are written again; what is damaged is never taken for a missing file, which would forget what was released.
func FuzzEpochFile(f *testing.F) {
	honest := epochFile{path: filepath.Join(f.TempDir(), "real")}
	if err := honest.save(realFile()); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(honest.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	for _, damaged := range [][]byte{
		nil, raw[:len(raw)/2], bytes.Replace(raw, []byte(`"epoch":7`), []byte(`"epoch":5`), 1),
		bytes.Replace(raw, []byte(`"format":1`), []byte(`"format":2`), 1), append(bytes.Clone(raw), raw...),
		[]byte(`{"format":1,"file":null,"sha256":""}`), []byte("null"),
		[]byte(`{"format":1,"file":{},"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}`),
	} {
		f.Add(damaged)
	}
	file := epochFile{path: filepath.Join(f.TempDir(), "main.epoch")}
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, known, err := file.load()
		if err != nil {
			if known || got != (hold.File{}) {
				t.Fatalf("%v, and %+v, known %t", err, got, known)
			}
			return
		}
		if !known {
			t.Fatal("a file that is there was taken for none")
		}
		if err := file.save(got); err != nil {
			t.Fatal(err)
		}
		if again, known, err := file.load(); err != nil || !known || again != got {
			t.Fatalf("%+v became %+v, %t, %v", got, again, known, err)
		}
	})
}

// FuzzMark reads any bytes as a mark. Only one of this boot is believed, and what is not whole is none: a mark
// that is made up would keep a database open.
func FuzzMark(f *testing.F) {
	mark := markFile{path: filepath.Join(f.TempDir(), "main.mark"), boot: "boot"}
	if err := mark.write(hold.Renew{Epoch: 3, Until: 9}); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(mark.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(bytes.Replace(raw, []byte("boot"), []byte("other"), 1))
	f.Add([]byte(`{"boot":"boot","epoch":-1,"until_boottime_ns":1e99}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(mark.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got := mark.load()
		if other := (markFile{path: mark.path, boot: "another"}).load(); got != (hold.Mark{}) && other != (hold.Mark{}) {
			t.Fatalf("%+v is believed in another boot", other)
		}
		if got == (hold.Mark{}) {
			return
		}
		if err := mark.write(hold.Renew(got)); err != nil {
			t.Fatal(err)
		}
		if again := mark.load(); !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v became %+v", got, again)
		}
	})
}
