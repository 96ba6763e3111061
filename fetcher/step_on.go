//go:build steps

package fetcher

import (
	"fmt"
	"strings"
	"sync/atomic"

	"popferry/fetcher/state"
)

// stepped, if it is set, is called with the label of every step as it is
// reached, by whatever goroutine reaches it. The build tag keeps it out of the
// program that users run.
var stepped atomic.Pointer[func(label string)]

// step marks a place between two effects, where the program may be killed.
func step(label string) {
	if f := stepped.Load(); f != nil {
		(*f)(label)
	}
}

// beforePut is the step at which changes are handed to the store, afterPut the
// one at which their transaction has ended. The order of effects has names for
// the important ones; no other commit is left out.
func beforePut(ch []state.Change) { step(labelOf(ch, "before ", beforeLabels)) }
func afterPut(ch []state.Change)  { step(labelOf(ch, "after ", afterLabels)) }

var (
	beforeLabels = map[string]string{"Intent": "K7", "Commit": "K10s", "Delivered": "K13", "Gone": "K18"}
	afterLabels  = map[string]string{
		"Listed": "K2", "Fetching": "K3", "Intent": "K8", "Commit": "K11s", "Delivered": "K14", "DelSent": "K16", "Gone": "K19",
	}
)

func labelOf(ch []state.Change, when string, labels map[string]string) string {
	name := ""
	for _, c := range ch {
		kind := fmt.Sprintf("%T", c)
		name = kind[strings.LastIndex(kind, ".")+1:]
		if l := labels[name]; l != "" {
			return l
		}
	}
	return when + name
}
