package sqlserver

import (
	"fmt"
	"testing"
)

func TestLSNText(t *testing.T) {
	for _, c := range []struct {
		text string
		want LSN
	}{
		{"0", LSN{}},
		{"", LSN{}},
		{"34000000016800001", LSN{34, 168, 1}},
		{"34000000016800037", LSN{34, 168, 37}},
		{"4294967295429496729565535", LSN{4294967295, 4294967295, 65535}},
		{"12345", LSN{0, 0, 12345}},
		{" 100000 ", LSN{0, 1, 0}},
	} {
		got, err := ParseLSN(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseLSN(%q) = %v, %v; want %v", c.text, got, err, c.want)
		}
		back, err := ParseLSN(got.Decimal())
		if err != nil || back != got {
			t.Errorf("%v as decimal %q reads back as %v, %v", got, got.Decimal(), back, err)
		}
	}
	for _, bad := range []string{"x", "-1", "1.5", "99999999999999999999999999", "99999" + "0000000000" + "99999", "12 3"} {
		if got, err := ParseLSN(bad); err == nil {
			t.Errorf("ParseLSN(%q) = %v, want an error", bad, got)
		}
	}
	if got := fmt.Sprint(LSN{33, 168, 1}); got != "00000021:000000a8:0001" {
		t.Errorf("printed as %s", got)
	}
}

func TestLSNScan(t *testing.T) {
	for _, value := range []any{[]byte("34000000016800001"), "34000000016800001", int64(34000000016800001)} {
		var l LSN
		if err := l.Scan(value); err != nil || l != (LSN{34, 168, 1}) {
			t.Errorf("Scan(%T) = %v, %v", value, l, err)
		}
	}
	l := LSN{1, 2, 3}
	if err := l.Scan(nil); err != nil || !l.IsZero() {
		t.Errorf("NULL was read as %v, %v", l, err)
	}
	if err := l.Scan(1.5); err == nil {
		t.Error("a float was read as an LSN")
	}
}

func TestLSNOrder(t *testing.T) {
	order := []LSN{{}, {1, 1, 1}, {1, 1, 2}, {1, 2, 1}, {2, 1, 1}}
	for i, a := range order {
		for j, b := range order {
			if got, want := a.Compare(b), min(max(i-j, -1), 1); got != want {
				t.Errorf("%v against %v is %d, want %d", a, b, got, want)
			}
		}
	}
}
