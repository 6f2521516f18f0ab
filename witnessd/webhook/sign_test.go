package webhook

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestReferenceVector is the example of the specification's own libraries.
func TestReferenceVector(t *testing.T) {
	keys, err := ReadKeys(secretFile(t, testSecret+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestReadKeys(t *testing.T) {
	raw := strings.Repeat("k", 30)
	for _, tt := range []struct {
		name, file string
		want       int // keys; 0: refused
	}{
		{"one", testSecret, 1},
		{"two, to change from one to the next", testSecret + "\n" + testSecret + "\n", 2},
		{"bytes", raw + "\r\n", 1},
		{"short", "whsec_c2hvcnQ=", 0},
		{"short bytes", "hush\n", 0},
		{"empty", "", 0},
		{"no base64", "whsec_!!!!", 0},
		{"one with and one without the prefix", testSecret + "\n" + raw, 0},
	} {
		keys, err := ReadKeys(secretFile(t, tt.file))
		if len(keys) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d keys, %v", tt.name, len(keys), err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the key is in the error: %v", tt.name, err)
		}
	}
	if keys, _ := ReadKeys(secretFile(t, raw+"\n")); !bytes.Equal(keys[0], []byte(raw)) {
		t.Errorf("raw key: %q", keys[0])
	}
	if _, err := New(Options{Hooks: []Hook{{Name: "w", SecretFile: "/nowhere/at/all"}}}); err == nil ||
		!strings.Contains(err.Error(), "webhook w: read secret_file") {
		t.Errorf("a sender without its secret: %v", err)
	}
}

// TestOverTLS delivers over a real socket, to a server whose certificate is checked, and follows no redirect.
func TestOverTLS(t *testing.T) {
	var mu sync.Mutex
	var taken []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/in", http.StatusTemporaryRedirect)
			return
		}
		if why := verify(r.Header, body, testSecret, time.Now()); why != "" || r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/json" || !json.Valid(body) {
			t.Errorf("%s %v: %s", r.Method, r.Header, why)
		}
		if verify(r.Header, append(body, ' '), testSecret, time.Now()) == "" {
			t.Error("a changed body passes")
		}
		taken = append(taken, r.Header.Get("webhook-id"))
	}))
	defer server.Close()
	secret := secretFile(t, testSecret)
	m := tell(ledger.Event{Sequence: 7, At: 1_700_000_000_250, Fact: pair.Fact{Kind: pair.FactPromoted}})
	for _, tt := range []struct {
		name, path string
		transport  http.RoundTripper
		want       string
	}{
		{"trusted", "/in", server.Client().Transport, ""},
		{"moved", "/moved", server.Client().Transport, "answered 307"},
		{"not trusted", "/in", nil, "certificate"},
	} {
		h := Hook{Name: "w", URL: server.URL + tt.path, SecretFile: secret, Timeout: 5 * time.Second}
		s, err := New(Options{Hooks: []Hook{h}, Transport: tt.transport})
		if err != nil {
			t.Fatal(err)
		}
		f := s.call(t.Context(), h, m)
		switch {
		case tt.want == "" && f != nil, tt.want != "" && (f == nil || !strings.Contains(f.why, tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, f, tt.want)
		}
	}
	if !reflect.DeepEqual(taken, []string{"evt_7_1700000000250"}) {
		t.Errorf("the server took %v", taken)
	}
}

func TestValidate(t *testing.T) {
	good := Hook{Name: "w", URL: "https://x/in", SecretFile: "/s", Events: []string{"ARMED"}, Pairs: []string{"*"},
		Timeout: time.Second}
	for want, change := range map[string]func(*Hook){
		"":                      func(*Hook) {},
		"name must be":          func(h *Hook) { h.Name = "a b" },
		"url must begin":        func(h *Hook) { h.URL = "x/in" },
		"secret_file must name": func(h *Hook) { h.SecretFile = "" },
		`no kind "armed"`:       func(h *Hook) { h.Events = []string{"armed"} },
		"is no name of a pair":  func(h *Hook) { h.Pairs = []string{"a?"} },
		"timeout (1h0m0s)":      func(h *Hook) { h.Timeout = time.Hour },
	} {
		h := good
		change(&h)
		bad := h.Validate()
		if want == "" && len(bad) > 0 || want != "" && (len(bad) != 1 || !strings.Contains(bad[0], want)) {
			t.Errorf("%v, want %q", bad, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"sales", "sales", true}, {"sales", "sales2", false}, {"*", "", true}, {"*", "x", true}, {"pay-*", "pay-", true},
		{"pay-*", "pay", false}, {"*-eu", "pay-eu", true}, {"*-eu", "pay-eus", false}, {"a*b*c", "aXbYc", true},
		{"a*b*c", "aXcYb", false}, {"**", "x", true}, {"a*a", "a", false},
	} {
		if got := matches(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q, %q: %v", tt.pattern, tt.name, got)
		}
	}
}
