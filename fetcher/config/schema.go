package config

// Key describes an accepted key, for documentation and its tests.
type Key struct {
	Section string // where it stands: "account", "then"
	Name    string
	Default string // in words; "" if there is none
	Doc     string // one sentence
}

// Keys lists all keys that are accepted, by section, in the order in which
// errors list them.
func Keys() []Key {
	var all []Key
	for _, keys := range [][]Key{
		topKeys().describe("top"), logKeys().describe("log"),
		accountKeys().describe("account"), keepKeys().describe("keep"), limitKeys().describe("limits"),
		imapKeys().describe("target"), section[relayDraft]{keys: relayOnly}.describe("target"),
		ruleKeys().describe("rule"), condKeys().describe("if"), thenKeys().describe("then"),
		jobKeys().describe("job"),
	} {
		all = append(all, keys...)
	}
	return all
}

func (s section[T]) describe(where string) []Key {
	keys := make([]Key, len(s.keys))
	for i, k := range s.keys {
		keys[i] = Key{where, k.name, k.def, k.doc}
	}
	return keys
}
