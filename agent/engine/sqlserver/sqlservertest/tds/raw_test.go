package tds

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// packet is what a client sends.
func packet(kind, status byte, body []byte) []byte {
	p := binary.BigEndian.AppendUint16([]byte{kind, status}, uint16(headerSize+len(body)))
	return append(append(p, 0, 0, 1, 0), body...)
}

// loginMessage is a LOGIN7 for sa with the password p@ss.
func loginMessage(packetSize uint32) []byte {
	b := make([]byte, loginFixed)
	binary.LittleEndian.PutUint32(b[loginVersion:], 0x74000004)
	binary.LittleEndian.PutUint32(b[loginPacketSize:], packetSize)
	put := func(at int, data []byte) {
		binary.LittleEndian.PutUint16(b[at:], uint16(len(b)))
		binary.LittleEndian.PutUint16(b[at+2:], uint16(len(data)/2))
		b = append(b, data...)
	}
	secret := toUCS2("p@ss")
	for i, c := range secret {
		secret[i] = (c<<4 | c>>4) ^ 0xA5
	}
	put(loginUser, toUCS2("sa"))
	put(loginPassword, secret)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

func batchMessage(text string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, 4), toUCS2(text)...)
}

// answer reads an answer to its end.
func answer(t *testing.T, from *bufio.Reader) []byte {
	t.Helper()
	m, err := readMessage(from)
	if err != nil || m.kind != packetReply {
		t.Fatalf("got %+v, %v", m, err)
	}
	return m.body
}

// Attention is acknowledged exactly once, whether a statement still runs or has been answered already.
func TestAttention(t *testing.T) {
	running := make(chan struct{})
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(ctx context.Context, q Request) Response {
		if q.SQL == "wait" {
			close(running)
			<-ctx.Done()
		}
		return Response{Results: []Result{{Affected: 5}}}
	})
	c, err := net.Dial("tcp", up.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	send := func(parts ...[]byte) {
		t.Helper()
		if _, err := c.Write(bytes.Join(parts, nil)); err != nil {
			t.Fatal(err)
		}
	}
	send(packet(packetPrelogin, 1, []byte{0xFF}))
	answer(t, in)
	login := loginMessage(4096)
	// In two packets.
	send(packet(packetLogin, 0, login[:50]), packet(packetLogin, 1, login[50:]))
	answer(t, in)
	acknowledged := []byte{tokenDone, doneAttention, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	send(packet(packetBatch, 1, batchMessage("wait")))
	<-running
	send(packet(packetAttention, 1, nil))
	if got := answer(t, in); !bytes.Equal(got, acknowledged) {
		t.Errorf("attention while it runs: got % x", got)
	}
	send(packet(packetBatch, 1, batchMessage("quick")))
	if got := answer(t, in); got[0] != tokenDone || got[5] != 5 {
		t.Errorf("the next statement: got % x", got)
	}
	send(packet(packetAttention, 1, nil))
	if got := answer(t, in); !bytes.Equal(got, acknowledged) {
		t.Errorf("attention when it is over: got % x", got)
	}
}

// What is not TDS ends the connection, and nothing else.
func TestGarbage(t *testing.T) {
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(context.Context, Request) Response { return Response{} })
	hello := packet(packetPrelogin, 1, []byte{0xFF})
	in := packet(packetLogin, 1, loginMessage(512))
	for what, bytes := range map[string][][]byte{
		"http":                     {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		"tls without certificate":  {{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}},
		"a packet without length":  {{packetPrelogin, 1, 0, 0, 0, 0, 0, 0}},
		"login first":              {in},
		"login too short":          {hello, packet(packetLogin, 1, make([]byte, 20))},
		"login out of its bounds":  {hello, packet(packetLogin, 1, append(loginMessage(512)[:90], 0xFF))},
		"bulk load":                {hello, in, packet(7, 1, []byte{4, 0, 0, 0})},
		"headers longer than all":  {hello, in, packet(packetBatch, 1, []byte{255, 0, 0, 0, 1})},
		"headers shorter than any": {hello, in, packet(packetBatch, 1, []byte{0, 0, 0, 0, 1})},
		"a call of nothing":        {hello, in, packet(packetRPC, 1, []byte{4, 0, 0, 0, 0xFF})},
		"two kinds in a message":   {hello, in, packet(packetBatch, 0, []byte{4, 0}), packet(packetRPC, 1, []byte{0, 0})},
	} {
		c, err := net.Dial("tcp", up.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for _, part := range bytes {
			// The server may have ended it already.
			_, _ = c.Write(part)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection goes on: %v", what, err)
		}
		_ = c.Close()
	}
	if err := up.db(t, plain).PingContext(t.Context()); err != nil {
		t.Errorf("the server does not take clients any more: %v", err)
	}
}

func FuzzPackets(f *testing.F) {
	f.Add(packet(packetBatch, 1, batchMessage("SELECT 1")))
	f.Add(append(packet(packetBatch, 0, batchMessage("SELECT")), packet(packetBatch, 1, []byte("1"))...))
	f.Add([]byte{packetTransaction, 1, 0, 14, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0})
	call := []byte{4, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 0}
	call = append(call, 0, 0, typeNVarChar, 0x40, 0x1F, 0, 0, 0, 0, 0, 2, 0, 'x', 0)
	call = append(call, 0, 0, typeNVarChar, 0xFF, 0xFF, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 'y', 0, 0, 0, 0, 0)
	call = append(call, 0, 0, typeInt, 4, 4, 1, 2, 3, 4, 0, 0, typeBit, 1, 1, 1, 0, 0, typeFloat, 8, 0, 0, 0, typeGUID, 16, 0)
	f.Add(packet(packetRPC, 1, call))
	f.Fuzz(func(t *testing.T, data []byte) {
		from := bufio.NewReader(bytes.NewReader(data))
		for {
			m, err := readMessage(from)
			if err != nil {
				return
			}
			if len(m.body) > len(data) {
				t.Errorf("a message of %d bytes out of %d", len(m.body), len(data))
			}
			//nolint:errcheck // whatever it says, it must not panic
			parseRequest(m)
		}
	})
}

func FuzzLogin(f *testing.F) {
	f.Add(loginMessage(4096))
	f.Add(loginMessage(1))
	f.Add(make([]byte, loginFixed))
	f.Add([]byte{})
	f.Add(prelogin(true))
	f.Fuzz(func(t *testing.T, data []byte) {
		wantsEncryption(data)
		l, err := parseLogin(data)
		if err == nil && (l.packet < 512 || l.packet > 32767) {
			t.Errorf("packets of %d bytes", l.packet)
		}
	})
}
