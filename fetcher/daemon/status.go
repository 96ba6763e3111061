// Package daemon runs jobs on schedule and tells how it goes.
package daemon

import "time"

// Status is how the jobs are doing: what the status page shows, what
// /api/status says as JSON and what popferry status prints. It is a copy that
// nobody changes. Texts are for people; what came from servers and mail in them
// is escaped already. New fields may be added, none is ever renamed.
type Status struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	Config  string    `json:"config"`           // path of the file
	Loaded  time.Time `json:"loaded,omitzero"`  // when it was read
	Serving bool      `json:"serving"`          // a daemon runs
	Started time.Time `json:"started,omitzero"` // since when
	OK      bool      `json:"ok"`
	Summary string    `json:"summary"` // one sentence: "All 3 jobs are fine. Next pass in 3 min."

	Jobs      []JobStatus     `json:"jobs"`
	Accounts  []AccountStatus `json:"accounts"`
	Attention []Problem       `json:"attention"` // what will go wrong if nobody looks
	Held      []HeldMessage   `json:"held"`      // the newest 100
	HeldTotal int             `json:"held_total"`
	Errors    []PastProblem   `json:"errors"` // the last 20, newest first

	Certificates []Certificate `json:"certificates,omitempty"` // that servers showed since Started
}

// JobStatus is one job. A run of a job over several accounts is one pass for
// each of them.
type JobStatus struct {
	Name        string    `json:"name"`
	Accounts    []string  `json:"accounts"`
	Targets     []string  `json:"targets"`
	Schedule    string    `json:"schedule"` // "every 5m", `cron "15 3 * * *" Europe/Berlin`, "by hand"
	OK          bool      `json:"ok"`
	Running     bool      `json:"running"`
	Next        time.Time `json:"next,omitzero"`         // the earliest of its accounts; zero if by hand or not serving
	LastSuccess time.Time `json:"last_success,omitzero"` // the oldest of its accounts' last ones; zero if one has none
	LastMail    time.Time `json:"last_mail,omitzero"`    // when last something new was delivered
	Failures    int       `json:"failures"`              // passes in a row, of its worst account
	Day         Counts    `json:"last_24h"`
	Problem     *Problem  `json:"problem,omitempty"` // why it is not OK
	Passes      []Pass    `json:"passes"`            // the last 50, oldest first

	// Interval is the longest time that the schedule lets pass between two runs;
	// 0 if by hand.
	Interval time.Duration `json:"interval_ns,omitempty"`

	failingFrom time.Time // of Problem
	tries       int
}

// Counts are what passes did to messages.
type Counts struct {
	New       int   `json:"new"`
	Delivered int   `json:"delivered"`
	Duplicate int   `json:"duplicate"`
	Dropped   int   `json:"dropped"`
	Failed    int   `json:"failed"`
	Held      int   `json:"held"`
	Deleted   int   `json:"deleted"`
	Bytes     int64 `json:"bytes"`
}

// Pass is one pass over one account, as the history keeps it.
type Pass struct {
	ID      string        `json:"pass"`
	Job     string        `json:"job"`
	Account string        `json:"account"`
	Start   time.Time     `json:"start"`
	Took    time.Duration `json:"took_ns"`
	Exit    int           `json:"exit"`              // as popferry run would have ended
	Problem *Problem      `json:"problem,omitempty"` // nil if Exit is 0
	// What lay on the server when the pass began; -1 messages if it was not listed.
	Messages int   `json:"messages_on_server"`
	Octets   int64 `json:"bytes_on_server"`
	Counts
}

// AccountStatus is what is known of one maildrop.
type AccountStatus struct {
	Name        string    `json:"name"`
	Server      string    `json:"server"` // host:port
	Job         string    `json:"job"`
	Messages    int       `json:"messages"` // on the server, at the last listing
	Bytes       int64     `json:"bytes"`
	Known       int       `json:"known"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	Next        time.Time `json:"next,omitzero"`
	Running     bool      `json:"running"`
	Failures    int       `json:"failures"` // passes in a row
	Keep        string    `json:"keep"`     // "30d", as configured
	ToDelete    int       `json:"to_delete"`
	NextDelete  time.Time `json:"next_delete,omitzero"`
	Note        string    `json:"note,omitempty"` // of its UIDLs or LOGIN-DELAY, if something is odd

	HeldMessages int       `json:"held"`
	FailingFrom  time.Time `json:"failing_from,omitzero"` // the first of Failures
	Since        time.Time `json:"since,omitzero"`        // the pass that is Running began
	Paused       bool      `json:"paused,omitempty"`      // its login waits: it was refused too often
	Problem      *Problem  `json:"problem,omitempty"`     // of its last pass
	TokenEnds    time.Time `json:"token_ends,omitzero"`   // of its OAuth sign-in
}

// Problem is what is wrong, why, and what to do next, in the words of the
// command line.
type Problem struct {
	Exit  int      `json:"exit"`
	Code  string   `json:"code"` // stable: "login-refused"
	Head  string   `json:"head"`
	Lines []string `json:"lines,omitempty"`
}

// PastProblem is a problem that a pass had.
type PastProblem struct {
	Time    time.Time `json:"time"`
	Job     string    `json:"job"`
	Account string    `json:"account"`
	Problem
}

// HeldMessage is a message that waits for a person.
type HeldMessage struct {
	Account string    `json:"account"`
	UIDL    string    `json:"uidl"` // escaped
	Since   time.Time `json:"since,omitzero"`
	Size    int64     `json:"size"`
	Reason  string    `json:"reason"`
	Subject string    `json:"subject,omitempty"` // only with http: {show_subjects: yes}
	Command string    `json:"command"`           // "popferry held retry isp/0001a7f2"
}

// Certificate is the one that a server showed at the last handshake.
type Certificate struct {
	Host     string    `json:"host"` // as configured, with the port
	NotAfter time.Time `json:"not_after"`
}
