package targets

import (
	"bytes"
	"context"
	"unicode/utf8"
)

// Examiner is implemented by targets that can be looked through as they are. No
// method makes, changes or marks anything, and none costs a round trip for each
// message. Folders are named as the server does: by Box.
type Examiner interface {
	// Box returns what the server calls the folder that rules call folder, "" if
	// it is not there.
	Box(ctx context.Context, folder string) (string, error)
	// Boxes returns all folders that can hold messages.
	Boxes(ctx context.Context) ([]string, error)
	// Examine lists what lies in box, in order of UID. Only key of each Message-ID is
	// kept; it is called by several goroutines, "" for a message without one. Where
	// there is no such box there are no copies, and Mark.UIDValidity is 0.
	Examine(ctx context.Context, box string, key func(messageID string) uint64) ([]Copy, Mark, error)
	// Hashes reads copies of the box that at is of and calls each with their
	// canonical hashes, one call at a time. It leaves out what cannot be read,
	// and may tell of a copy twice after a connection was lost. That the box was
	// numbered anew since is an error.
	Hashes(ctx context.Context, at Mark, copies []Copy, each func(uid uint32, h Hash)) error
}

// Copy is a message in a box.
type Copy struct {
	UID  uint32
	Size int64  // octets, with CRLF line ends, as the server says; -1 if it cannot be read
	Key  uint64 // of its Message-ID
}

const maxMessageID = 998 // octets, a line of RFC 5322 §2.1.1

// MessageIDOf returns what stands in angle brackets in a Message-ID field, with
// them and without folding; "" where nothing stands that identifies. So
// rules.Header.MessageID has it.
func MessageIDOf(field []byte) string {
	_, v, _ := bytes.Cut(field, []byte(":"))
	for i := 0; i < len(v); i++ { // to the end of the first field
		if v[i] == '\n' && (i+1 == len(v) || v[i+1] != ' ' && v[i+1] != '\t') {
			v = v[:i]
		}
	}
	start := bytes.IndexByte(v, '<')
	if start < 0 {
		return ""
	}
	v = v[start:]
	end := bytes.IndexByte(v, '>')
	if end < 0 {
		return ""
	}
	id := v[:end+1]
	if bytes.ContainsAny(id, " \t\r\n") { // folding, RFC 5322 §2.2.3
		id = bytes.Join(bytes.FieldsFunc(id, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), nil)
	}
	if bytes.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	if len(id) <= len("<>") || len(id) > maxMessageID || !utf8.Valid(id) {
		return ""
	}
	return string(id)
}
