package imap

import "testing"

func TestParseOverview(t *testing.T) {
	for _, c := range []struct {
		in, header string
		uid        uint32
		size       int64
	}{
		{"* 5 FETCH (UID 7 RFC822.SIZE 43 BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <a@b>\r\n\r\n)\r\n", "Message-ID: <a@b>\r\n\r\n", 7, 43},
		{"* 5 FETCH (FLAGS (\\Seen \\Recent) body[header.fields (\"MESSAGE-ID\")] {2}\r\n\r\n rfc822.size 43 UID 7 MODSEQ (12))\r\n", "\r\n", 7, 43},
		{`* 5 FETCH (BODY[HEADER.FIELDS (MESSAGE-ID)] "Message-ID: <\"a\"@b>" UID 7 RFC822.SIZE 0)` + "\r\n", `Message-ID: <"a"@b>`, 7, 0},
		{"* 5 FETCH (UID 7 RFC822.SIZE 43 BODY[HEADER.FIELDS (MESSAGE-ID)] NIL)\r\n", "NIL", 7, 43},
		{"* 5 FETCH (UID 7 FLAGS (\\Seen))\r\n", "", 0, 0},
		{"* 5 FETCH (UID 0 RFC822.SIZE 4 BODY[] NIL)\r\n", "", 0, 0},
		{"* 5 FETCH (UID 4294967296 RFC822.SIZE 4 BODY[] NIL)\r\n", "", 0, 0},
		{"* 5 FETCH (UID 7 RFC822.SIZE -4 BODY[] NIL)\r\n", "", 0, 0},
		{"* 5 FETCH (UID 7 RFC822.SIZE 4 BODY[] {9}\r\nx)\r\n", "", 0, 0},
		{"* 5 FETCH (UID 7 RFC822.SIZE 4 BODY[] \"x\\\r\n", "", 0, 0},
		{"* 5 FETCH ((((\r\n", "", 0, 0},
		{"* 5 FETCH\r\n", "", 0, 0},
		{"", "", 0, 0},
	} {
		uid, size, header, ok := parseOverview([]byte(c.in))
		if ok != (c.uid > 0) || ok && (uid != c.uid || size != c.size || string(header) != c.header) {
			t.Errorf("%q: %d, %d, %q, %v", c.in, uid, size, header, ok)
		}
	}
}

func FuzzOverview(f *testing.F) {
	f.Add([]byte("* 5 FETCH (UID 7 RFC822.SIZE 43 BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <a@b>\r\n\r\n)\r\n"))
	f.Add([]byte(`* 5 FETCH (BODY[] "\"" FLAGS (a (b)) UID 7 RFC822.SIZE 0)` + "\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		uid, size, header, ok := parseOverview(in)
		if ok && (uid == 0 || size < 0 || len(header) > len(in)) {
			t.Errorf("%q: %d, %d, %q", in, uid, size, header)
		}
	})
}

func BenchmarkOverview(b *testing.B) {
	in := []byte("* 5 FETCH (UID 7 RFC822.SIZE 43 BODY[HEADER.FIELDS (MESSAGE-ID)] {21}\r\nMessage-ID: <a@b>\r\n\r\n)\r\n")
	v := view{each: func(uint32, int64, string) {}}
	b.ReportAllocs()
	for b.Loop() {
		v.buf.Reset()
		v.buf.Write(in)
		v.take()
	}
}
