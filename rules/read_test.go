package rules

import "testing"

func TestReadMessage(t *testing.T) {
	for _, tc := range []struct {
		file, subject, body string
		size                int64
	}{
		{"Subject: a\r\n\r\nb\r\n", "a", "b\r\n", 17},
		{"Subject: a\n\nb\n", "a", "b\n", 17},
		{"From x@y Mon Mar  2 09:00:00 2026\nSubject: a\n\nb\n\nc\n", "a", "b\n\nc\n", 22},
		{"Subject: a\n", "a", "", 12},
		{"Subject: a", "a", "", 10},
		{"\nSubject: a\n", "", "Subject: a\n", 14},
		{"", "", "", 0},
		{"From nobody", "", "", 11},
	} {
		m := ReadMessage([]byte(tc.file))
		if got := m.Header.Text("Subject"); got != tc.subject || string(m.Body()) != tc.body || m.Size != tc.size {
			t.Errorf("%q: subject %q, body %q, %d octets", tc.file, got, m.Body(), m.Size)
		}
	}
}
