package rules

import "bytes"

// ReadMessage makes a Message of a file: b is a message with any line ends, and
// perhaps an mbox "From " line above it. The size is the one it has on a
// maildrop, where lines end in CRLF. Account and Now are left to the caller; b
// must not change afterwards.
func ReadMessage(b []byte) *Message {
	if bytes.HasPrefix(b, []byte("From ")) {
		end := bytes.IndexByte(b, '\n')
		b = b[max(0, end+1):]
	}
	bare := bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
	m := &Message{Header: ParseHeader(b), Size: int64(len(b) + bare)}
	body := bodyOf(b)
	m.Body = func() []byte { return body }
	return m
}

// bodyOf returns what follows the first empty line.
func bodyOf(b []byte) []byte {
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		if len(bytes.TrimRight(line, "\r")) == 0 {
			return rest
		}
		b = rest
	}
	return nil
}
