package daemon

import (
	"strings"

	"popferry/targets/endpoint"
)

// ShellWord writes a UIDL so that a shell takes it for one word, and popferry
// for no flag.
func ShellWord(s string) string {
	if strings.HasPrefix(s, "-") {
		return "-- " + quoted(s)
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' && r != '/' {
			return quoted(s)
		}
	}
	return s
}

func quoted(s string) string {
	return "'" + strings.ReplaceAll(endpoint.Printable(s, 200), "'", `'\''`) + "'"
}
