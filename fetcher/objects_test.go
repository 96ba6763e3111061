package fetcher

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// objects counts what this process has allocated, by kind and place. It counts
// everything if runtime.MemProfileRate was 1 from the beginning.
func objects() map[string]map[string]int64 {
	runtime.GC() // the profile tells of what was before the last but one
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 0, 4096)
	for {
		n, ok := runtime.MemProfile(records[:cap(records)], true)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, 0, 2*n)
	}
	kinds := map[string]map[string]int64{}
	for i := range records {
		kind, place := placeOf(records[i].Stack())
		if kinds[kind] == nil {
			kinds[kind] = map[string]int64{}
		}
		kinds[kind][place] += records[i].AllocObjects
	}
	return kinds
}

// placeOf says what an object that was made by a call stack is for.
func placeOf(stack []uintptr) (kind, place string) {
	kind = "hot"
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		name, ours := strings.CutPrefix(f.Function, "popferry/")
		if !ours {
			continue
		}
		if place == "" {
			place = fmt.Sprintf("%s, line %d", name, f.Line)
		}
		switch {
		case strings.HasPrefix(name, "fetcher/state."):
			return "state", place
		case strings.HasSuffix(name, ".(*Conn).List"), strings.HasSuffix(name, ".(*pass).list"), strings.HasSuffix(name, ".(*pass).calm"):
			return "listing", place
		}
	}
	if place == "" {
		return "others", "" // the runtime's and the test's
	}
	return kind, place
}

// countObjects does f and writes to a file what it allocates.
func countObjects(file string, f func() error) error {
	runtime.MemProfileRate = 1
	if err := f(); err != nil {
		return err
	}
	raw, err := json.Marshal(objects())
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}
