package corpus

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

//go:embed varied.txt
var varied string

// Varied returns what might lie in one person's maildrop: family, lists,
// invoices, a newsletter, a robot, spam, attachments, and a few messages that
// are nasty. Two of them are identical.
func Varied() []Message {
	var all []Message
	for _, part := range strings.Split(varied, "%% ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		all = append(all, Message{name, expand(name, text)})
	}
	few := []string{"nul", "all-lf", "bare-cr", "no-final-newline", "empty", "identical-1", "identical-2", "dot-lf-forgery"}
	for _, m := range Nasty() {
		if slices.Contains(few, m.Name) {
			all = append(all, m)
		}
	}
	return all
}

// expand makes a message of a text whose lines "@attachment 5000" stand for so
// many octets of base64.
func expand(name, text string) []byte {
	var b strings.Builder
	for line := range strings.Lines(text) {
		size, ok := strings.CutPrefix(line, "@attachment ")
		if !ok {
			b.WriteString(line)
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil {
			panic(fmt.Sprintf("varied.txt: %s: %v", name, err))
		}
		attachment(&b, rand.New(rand.NewPCG(uint64(n), 2)), n)
	}
	return crlf(b.String())
}
