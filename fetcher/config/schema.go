package config

import "slices"

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
		httpKeys().describe("http"), basicAuthKeys().describe("basic_auth")[:2], // the others are in the words on password
		accountKeys().describe("account"), keepKeys().describe("keep"), limitKeys().describe("limits"), oauthKeys().describe("oauth"),
		targetKeys(),
		ruleKeys().describe("rule"), condKeys().describe("if"), thenKeys().describe("then"),
		jobKeys().describe("job"), notifyKeys().describe("notify"),
	} {
		all = append(all, keys...)
	}
	return all
}

// targetKeys are the keys of all types of targets, each once.
func targetKeys() []Key {
	keys := imapKeys().describe("target")
	for _, k := range slices.Concat(relayKeys(submission).describe("target"), maildirKeys().describe("target")) {
		if !slices.ContainsFunc(keys, func(o Key) bool { return o.Name == k.Name }) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (s section[T]) describe(where string) []Key {
	keys := make([]Key, len(s.keys))
	for i, k := range s.keys {
		keys[i] = Key{where, k.name, k.def, k.doc}
	}
	return keys
}
