package config

import (
	"fmt"
	"strings"
)

// otherWords are what other programs call our keys and words.
var otherWords = map[string]string{
	"username": "user", "login": "user", "email": "user",
	"pass": "password", "passwd": "password", "passwordeval": "password_command", "pass_cmd": "password_command",
	"passcmd": "password_command", "server": "host", "hostname": "host", "ssl": "tls", "encryption": "tls",
	"interval": "every", "schedule": "cron", "mailbox": "folder", "delete": "keep", "delete_after": "keep",
	"source": "from", "destination": "to", "account": "accounts", "match": "if", "when": "if", "actions": "then",
	"starttls": "tls", "fingerprint": "tls_fingerprint", "database": "state", "list-id": "list_id", "listid": "list_id",
	"imaps": "imap", "pop3s": "implicit", "ssl/tls": "implicit", "stls": "starttls", "star": "flagged", "read": "seen",
}

// didYouMean proposes what was probably meant by word, as text beside a caret;
// "" if nothing is near.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

func nearest(word string, known []string) string {
	word = strings.ToLower(strings.ReplaceAll(word, "-", "_"))
	if len(word) > 40 {
		return ""
	}
	best, least := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if k == word || k == otherWords[word] {
			return k
		}
		if n := distance(word, k); n < least {
			best, least = k, n
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	prev, row := make([]int, len(b)+1), make([]int, len(b)+1)
	next := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], prev[j-2]+1)
			}
		}
		prev, row, next = row, next, prev
	}
	return row[len(b)]
}
