package fetcher

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// VerifyOptions say how much is compared.
type VerifyOptions struct {
	Deep bool // the contents of every message, and not only where nothing else tells
}

// Proof is what Verify found.
type Proof struct {
	Job, Account string
	Took         time.Duration
	Messages     int           // on the maildrop
	Targets      []TargetProof // of those that should have any of them, by name
	Doubts       []Doubt       // in the order of the maildrop

	// Messages that need not be at any target.
	Dropped int // a rule does not want them
	Skipped int // a rule, or max_size, leaves them on the maildrop
	Marked  int // remembered without having been delivered: by first_run, by hand, by an import
	Waiting int // came since the last pass

	Warnings []string
}

// TargetProof is what Verify found at one target. Messages are counted that should
// be there; one that has several copies there by how its least certain one was found.
type TargetProof struct {
	Target      string
	Wanted      int
	ByUID       int            // at the UID that was recorded
	ByMessageID int            // by Message-ID and size
	ByContent   int            // because the contents agree
	Elsewhere   map[string]int // of these, copies in other folders than they were delivered to
	Relay       bool           // it cannot be looked into
	Taken       int            // of a Relay: messages that all their recipients have, as the state says
}

// DoubtKind says what is wrong with a copy.
type DoubtKind byte

// The kinds of doubts, by the signs that lists have for them.
const (
	Missing    DoubtKind = '-' // it is not there
	Different  DoubtKind = '*' // what is there has its Message-ID, or its UID, and is another message
	Unreadable DoubtKind = '!' // one of the two sides could not be read
)

func (k DoubtKind) String() string {
	return map[DoubtKind]string{Missing: "missing", Different: "different", Unreadable: "unreadable"}[k]
}

// Doubt is a message that is not at a target as it should be.
type Doubt struct {
	Kind           DoubtKind
	UIDL           string // raw octets of the server; escape before printing, like all that follows
	Octets         int64  // as LIST says
	Target, Folder string // where it should be
	Reason         string
	Held           bool // that is why: what popferry held list shows
	// Of the first doubts only, see maxDescribed.
	MessageID, From, Subject string
	Date                     time.Time

	entry int32
}

// maxDescribed is of how many doubts the headers are read: nobody reads more, and
// where everything is missing they must not fill the memory.
const maxDescribed = 1000

// TargetError is an error of one target.
type TargetError struct {
	Target string
	Err    error
}

func (e *TargetError) Error() string { return e.Target + ": " + e.Err.Error() }

// Unwrap returns the target's own error.
func (e *TargetError) Unwrap() error { return e.Err }

// Verify compares what lies on a's maildrop with what lies in the targets that
// should have it, each occurrence with a copy of its own. A copy is one that lies
// where the state says (folder, UIDVALIDITY, UID; size and Message-ID agree), or
// else has the message's Message-ID and size, or else its contents. One that is
// not in its folder is looked for in all others of its target. Contents are
// compared in canonical form. Where messages share a Message-ID, they decide.
//
// It changes nothing: folders are EXAMINEd, the maildrop is read by TOP as far as
// it can, the state is only read. So it can run beside a pass of another process,
// and without a state: what is not in it, or where there is none, goes where the
// rules say today. Whatever comes to the maildrop after Verify has listed it is
// not looked at.
//
// An error says that it could not be found out, a *TargetError whose fault that is; the
// Proof is then worth nothing.
func (f *Fetcher) Verify(ctx context.Context, j *Job, a *Account, o VerifyOptions) (Proof, error) {
	return f.verify(ctx, j, a, o, nil)
}

// verify is Verify of what a session has listed a moment ago: then nobody need log
// in once more, as long as no message must be read. With nil it lists.
func (f *Fetcher) verify(ctx context.Context, j *Job, a *Account, o VerifyOptions, listed []maildrop.Entry) (Proof, error) {
	proof := Proof{Job: j.Name, Account: a.Name}
	p, err := f.newPass(j, a)
	if err != nil {
		return proof, err
	}
	v := &verification{
		f: f, p: p, deep: o.Deep, start: f.now(), proof: &proof, src: &source{p: p, entries: slices.Clone(listed), listed: listed != nil},
		seed: maphash.MakeSeed(), sites: map[string]*site{}, texts: []string{""}, told: map[string]bool{},
	}
	defer v.src.close()
	err = v.run(ctx)
	proof.Took = f.now().Sub(v.start)
	proof.Warnings = append(proof.Warnings, p.report.Warnings...)
	if err == nil {
		err = context.Cause(ctx)
	}
	return proof, err
}

// verification is one run of Verify.
type verification struct {
	f     *Fetcher
	p     *pass
	deep  bool
	start time.Time
	proof *Proof
	src   *source
	seed  maphash.Seed

	account state.Account // ID is 0 where nothing is remembered
	rows    []int64       // by entry: the message in the state, 0 for none
	unknown []unknown     // entries of which the rules must tell where they go
	wants   []want
	sites   map[string]*site // by target
	hashes  []targets.Hash   // by entry; zero until it was needed
	texts   []string         // reasons
	told    map[string]bool  // targets that are no more
	sizes   map[int32]int64  // canonical ones, of entries that were read
	refused map[int32]error  // entries that the server does not show
}

// method is how a copy was found, the most certain first.
type method uint8

const (
	notFound method = iota
	byUID
	byID
	byContent
)

// want is one copy that should be at a target. There are many of them.
type want struct {
	entry         int32 // index of the listing
	box           int32 // index of site.boxes
	at            int32 // the box it was found in, likewise
	validity, uid uint32
	found         uint32 // UID of what was found
	site          *site
	size          int64 // as the state has it, in canonical form, else as LIST says
	key           uint64
	reason        int32 // index of texts
	by            method
	waiting       bool
	held          bool // in the state
	same          bool // the contents have been compared
	doubt         DoubtKind
}

// site is a target that should have messages.
type site struct {
	name    string
	x       targets.Examiner // nil if it cannot be looked into
	relay   targets.Relay
	boxes   []*box
	named   map[string]int32 // by the server's name
	folders map[string]int32 // by the rules' name
	taken   map[int32]bool   // of a relay: entries that it has
}

// box is a folder.
type box struct {
	name     string // "" where the folder is not there
	folder   string // for people
	examined bool
	mark     targets.Mark
	copies   []targets.Copy // in order of UID
	out      []bool         // by index of copies: it is another's
}

func (v *verification) run(ctx context.Context) error {
	if err := v.src.open(ctx); err != nil {
		return err
	}
	v.proof.Messages = len(v.src.entries)
	if err := v.remembered(ctx); err != nil {
		return err
	}
	if err := v.route(ctx); err != nil {
		return err
	}
	slices.SortStableFunc(v.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(a.site.name, b.site.name))
	})
	for _, name := range slices.Sorted(maps.Keys(v.sites)) {
		if s := v.sites[name]; s.x != nil {
			if err := v.search(ctx, s); err != nil {
				if _, ok := errors.AsType[*targets.Error](err); ok {
					return &TargetError{Target: name, Err: err}
				}
				return err
			}
		}
	}
	if len(v.refused) > 0 { // because they are not there any more?
		if err := v.src.again(ctx); err != nil {
			return err
		}
	}
	v.judge()
	v.describe(ctx)
	v.src.quit(ctx)
	return nil
}

// site returns that of a target, nil if there is no such target any more.
func (v *verification) site(name string) *site {
	s := v.sites[name]
	if s != nil {
		return s
	}
	t := v.f.Targets[name]
	if t == nil {
		return nil
	}
	s = &site{name: name, named: map[string]int32{}, folders: map[string]int32{}, taken: map[int32]bool{}}
	s.x, _ = t.(targets.Examiner)
	s.relay, _ = t.(targets.Relay)
	v.sites[name] = s
	return s
}

// box returns the index of the folder that the server calls name.
func (s *site) box(name, folder string) int32 {
	if i, ok := s.named[name]; ok {
		return i
	}
	i := int32(len(s.boxes))
	s.boxes = append(s.boxes, &box{name: name, folder: cmp.Or(name, folder)})
	if name != "" {
		s.named[name] = i
	}
	return i
}

// folder is box for what rules call folder.
func (s *site) folder(ctx context.Context, folder string) (int32, error) {
	if i, ok := s.folders[folder]; ok || s.x == nil {
		return i, nil
	}
	name, err := s.x.Box(ctx, folder)
	if err != nil && targets.FaultOf(err) != targets.Refused { // no folder can have that name
		return 0, err
	}
	i := s.box(name, folder)
	s.folders[folder] = i
	return i, nil
}

// key is what is kept of a Message-ID, 0 for none.
func (v *verification) key(id string) uint64 {
	if id == "" {
		return 0
	}
	return maphash.String(v.seed, id) | 1
}

// reason returns the index of a text.
func (v *verification) reason(text string) int32 {
	i := slices.Index(v.texts, text)
	if i < 0 {
		i = len(v.texts)
		v.texts = append(v.texts, text)
	}
	return int32(i)
}

// judge makes of every copy that was looked for what the Proof says.
func (v *verification) judge() {
	counts := map[*site]*TargetProof{}
	for _, name := range slices.Sorted(maps.Keys(v.sites)) {
		s := v.sites[name]
		v.proof.Targets = append(v.proof.Targets, TargetProof{Target: name, Relay: s.x == nil, Elsewhere: map[string]int{}})
	}
	for i := range v.proof.Targets {
		counts[v.sites[v.proof.Targets[i].Target]] = &v.proof.Targets[i]
	}
	waiting := int32(-1)
	for first := 0; first < len(v.wants); {
		w := &v.wants[first]
		last := first
		worst, late := notFound, false
		for ; last < len(v.wants) && v.wants[last].entry == w.entry && v.wants[last].site == w.site; last++ {
			k := &v.wants[last]
			worst = max(worst, k.by)
			late = late || k.waiting && k.by == notFound
			if k.by != notFound && k.at != k.box {
				counts[k.site].Elsewhere[k.site.boxes[k.at].folder]++
			}
		}
		switch {
		case v.src.gone(w.entry): // while this ran
		case late:
			if waiting != w.entry {
				v.proof.Waiting++
			}
			waiting = w.entry
		default:
			v.count(counts[w.site], first, last, worst)
		}
		first = last
	}
	v.proof.Messages -= v.src.left
	v.proof.Targets = slices.DeleteFunc(v.proof.Targets, func(t TargetProof) bool { return t.Wanted == 0 })
}

// count adds the copies of one message at one target.
func (v *verification) count(t *TargetProof, first, last int, worst method) {
	t.Wanted++
	whole := true
	for i := first; i < last; i++ {
		w := &v.wants[i]
		if w.doubt == 0 && w.by != notFound || w.site.x == nil && w.doubt == 0 {
			continue
		}
		whole = false
		e := v.src.entries[w.entry]
		d := Doubt{entry: w.entry, Kind: cmp.Or(w.doubt, Missing), UIDL: e.UIDL, Octets: e.Size, Target: w.site.name, Reason: v.texts[w.reason], Held: w.held}
		if len(w.site.boxes) > 0 {
			d.Folder = w.site.boxes[w.box].folder
		}
		v.proof.Doubts = append(v.proof.Doubts, d)
	}
	if !whole {
		return
	}
	if v.wants[first].site.taken[v.wants[first].entry] {
		t.Taken++
	}
	switch worst {
	case byUID:
		t.ByUID++
	case byID:
		t.ByMessageID++
	case byContent:
		t.ByContent++
	}
}

// describe reads the headers of doubtful messages. What cannot be read stays
// without.
func (v *verification) describe(ctx context.Context) {
	doubts := v.proof.Doubts[:min(len(v.proof.Doubts), maxDescribed)]
	var list []int32
	for _, d := range doubts {
		if len(list) == 0 || list[len(list)-1] != d.entry {
			list = append(list, d.entry)
		}
	}
	err := v.src.headers(ctx, list, func(entry int32, head []byte, err error) error {
		e := Event{Header: rules.ParseHeader(head)}
		for len(doubts) > 0 && doubts[0].entry <= entry {
			if d := &doubts[0]; err == nil && d.entry == entry {
				d.MessageID, d.From, d.Subject, d.Date = e.Header.MessageID(), e.From(), e.Subject(), e.Date()
			}
			doubts = doubts[1:]
		}
		return nil
	})
	if err != nil {
		v.p.log.Warn("headers of missing messages could not be read", "err", err)
	}
}
