package imap

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipeLink is a connection in memory, without a clock.
type pipeLink struct{ net.Conn }

func (pipeLink) Progress() {}
func (pipeLink) Idle(bool) {}

// FuzzDemux: whatever a server says, nothing hangs or panics, every command
// ends once, and one that ends well had its own tag answered.
func FuzzDemux(f *testing.F) {
	for _, s := range []string{
		"P1 OK [APPENDUID 1 2] done\r\nP2 OK done\r\nP3 NO no\r\n",
		"P3 OK x\r\nP1 OK x\r\n* BYE bye\r\n",
		"* 1 EXISTS\r\n* XFOO {3}\r\nabc\r\n* OK [UIDNEXT 5] x\r\nP1 OK {3}\r\n",
		"* LIST () \"/\" {5}\r\nINBOX\r\nT1 OK x\r\n* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n",
		"+ go\r\n+ go\r\n", "P1 OK\n", "\r\n", "T2 OK\r\n", "* 5 FETCH (BODY[] {99999999999}\r\n", "P18446744073709551616 OK x\r\n",
		"* LIST (" + strings.Repeat("(", 50) + "\r\n", "P1 OK x\r\nP1 OK x\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		client, server := net.Pipe()
		c := newConn(pipeLink{client}, bufio.NewReaderSize(client, 64), parseCaps("IMAP4rev1 LITERAL+ MULTIAPPEND"))
		var mu sync.Mutex
		over := map[*command]int{}
		c.done = func(cmd *command) {
			mu.Lock()
			defer mu.Unlock()
			over[cmd]++
		}
		lost := make(chan struct{})
		c.lost = func(*conn) { close(lost) }
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, server) })
		c.start(wg.Go)
		inbox := &folder{name: "INBOX", wire: "INBOX"}
		var cmds []*command
		for _, verb := range []string{"NOOP", "EXAMINE", "NOOP"} {
			cmd, err := c.ask(verb, inbox)
			if err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
		}
		list := c.client.List("", "", nil)
		server.Write(script)
		server.Close()
		<-lost
		list.Collect()
		wg.Wait()
		for i, cmd := range cmds {
			<-cmd.ended
			own := fmt.Appendf(nil, "P%d ", i+1)
			if over[cmd] != 1 || cmd.err == nil && cmd.reply.status == "" {
				t.Errorf("command %d ended %d times, with %v and %q", i+1, over[cmd], cmd.err, cmd.reply.status)
			}
			if cmd.err == nil && !bytes.Contains(script, own) && !bytes.Contains(script, []byte("P0")) {
				t.Errorf("command %d was answered by %q", i+1, cmd.reply)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"OK [APPENDUID 1 2:3,5] done", "NO [", "NO []", "BAD", "OK [X", "NO [OVERQUOTA] a]b"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 1 + (n&0xff+256)%256
		r, ok := parseReply([]byte(s))
		if !ok {
			return
		}
		if words := r.String(); strings.ContainsAny(words, "\r\n\x1b\x00") || len(words) > 4*maxReply+8 {
			t.Errorf("%q shows as %q", s, words)
		}
		r.fault()
		if _, uids := appendUID(r.arg, n); uids != nil && (len(uids) != n || !slices.IsSorted(uids) || len(slices.Compact(slices.Clone(uids))) != n || uids[0] == 0) {
			t.Errorf("APPENDUID %q gives %v for %d messages", r.arg, uids, n)
		}
		line := []byte("* " + s + "\r\n")
		kindOf(line)
		if size, ok, _ := literalOf(line); ok && size < 0 {
			t.Errorf("%q announces %d octets", s, size)
		}
	})
}

// FuzzServerName: no name, however chosen, ends its command or leaves its place.
func FuzzServerName(f *testing.F) {
	for _, s := range []string{"a/b", "inbox/x", "Übung & Co", "a\r\nb", `"`, `\`, "..", "日本", "\xff", "a.b"} {
		f.Add(s, ".")
	}
	f.Fuzz(func(t *testing.T, name, delim string) {
		if len(delim) > 1 || delim != "" && (delim[0] < ' ' || delim[0] > '~') {
			return
		}
		facts := &facts{caps: parseCaps("IMAP4rev1"), delim: delim, prefix: "INBOX."}
		full, err := facts.serverName(name)
		if err != nil {
			return
		}
		wire := wireName(full, false)
		if full != "INBOX" && !strings.HasPrefix(full, "INBOX.") {
			t.Errorf("%q became %q, outside the namespace", name, full)
		}
		if !plainASCII(wire) || len(wire) > maxName || wire != "INBOX" && strings.Count(strings.NewReplacer(`\\`, "", `\"`, "").Replace(wire), `"`) != 2 {
			t.Errorf("%q became %q", name, wire)
		}
	})
}

func TestAppendUID(t *testing.T) {
	for _, c := range []struct {
		arg  string
		n    int
		want []uint32
	}{
		{"7 5", 1, []uint32{5}},
		{"7 5:7", 3, []uint32{5, 6, 7}},
		{"7 7:5", 3, []uint32{5, 6, 7}},
		{"7 1,3:4", 3, []uint32{1, 3, 4}},
		{"7 5:7", 2, nil},
		{"7 5", 2, nil},
		{"7 3,1", 2, nil},
		{"7 1:4294967295", 2, nil},
		{"0 5", 1, nil},
		{"7", 1, nil},
	} {
		if v, got := appendUID(c.arg, c.n); !slices.Equal(got, c.want) || (v == 7) != (c.want != nil) {
			t.Errorf("appendUID(%q, %d) = %d, %v, want %v", c.arg, c.n, v, got, c.want)
		}
	}
}

func TestAppendDate(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), `" 3-Feb-2024 04:05:06 +0000"`},
		{time.Date(2024, 2, 13, 4, 5, 6, 0, time.FixedZone("", -3600*7)), `"13-Feb-2024 04:05:06 -0700"`},
		{time.Date(2024, 2, 13, 4, 5, 6, 0, time.FixedZone("", 99*3600)), `" 9-Feb-2024 01:05:06 +0000"`},
		{time.Date(1900, 1, 1, 0, 0, 1, 0, time.FixedZone("LMT", 3208)), `"31-Dec-1899 23:06:33 +0000"`},
	} {
		if got := string(appendDate(nil, c.t)); got != c.want {
			t.Errorf("%v is %s, want %s", c.t, got, c.want)
		}
	}
}

// BenchmarkEncode is the cost of writing a message of 8 KB into a batch.
func BenchmarkEncode(b *testing.B) {
	c := newConn(pipeLink{discardConn{}}, nil, parseCaps("IMAP4rev1 LITERAL+ MULTIAPPEND"))
	body := bytes.NewReader(bytes.Repeat([]byte("0123456789abcd\r\n"), 512))
	f := &folder{wire: "INBOX"}
	c.examined = &command{folder: f}
	cmd := &command{verb: "APPEND", folder: f}
	for range maxBatch {
		cmd.jobs = append(cmd.jobs, &job{body: body, size: body.Size(), flags: `(\Seen)`, date: time.Unix(1e9, 0).UTC()})
	}
	b.ReportAllocs()
	b.SetBytes(body.Size())
	for i := 0; i < b.N; i += maxBatch {
		if err := c.appendLocked(cmd); err != nil {
			b.Fatal(err)
		}
		clear(c.pending)
	}
}

type discardConn struct{ net.Conn }

func (discardConn) Write(p []byte) (int, error) { return len(p), nil }
