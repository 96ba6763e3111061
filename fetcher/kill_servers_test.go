package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/targetstest"
)

// scripted is a trial between scripted servers, which watch the order of effects
// from outside: when a message arrives at a target its intent must be on disk,
// and when a DELE comes in the copies must be at the targets and on disk.
type scripted struct {
	*trial
	pop   *maildroptest.Server
	boxes []*targetstest.IMAP

	// careless leaves out the look at the state, which costs more than a pass.
	careless bool

	mu       sync.Mutex
	popHook  popHook
	imapHook imapHook
	lists    map[int][]maildroptest.Message // what each session was shown
	marked   map[int]map[targets.Hash]int   // what each session has deleted
	verbs    map[string]int
	hashes   map[*byte]targets.Hash
}

// popHook and imapHook come after the watching; nil is a good server.
type (
	popHook  func(session int, cmd string) maildroptest.Action
	imapHook func(target int, c targetstest.Command) targetstest.Action
)

// hook sets them, at any time.
func (s *scripted) hook(pop popHook, imap imapHook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.popHook, s.imapHook = pop, imap
}

// newScripted fills a maildrop. start starts the servers; what they are like is
// set before.
func newScripted(t *testing.T, name string, mail []string, boxes int) *scripted {
	s := &scripted{
		trial: newTrial(t, name), pop: maildroptest.New("jane", "secret"),
		lists: map[int][]maildroptest.Message{}, marked: map[int]map[targets.Hash]int{},
		verbs: map[string]int{}, hashes: map[*byte]targets.Hash{},
	}
	s.ends = s
	for i, raw := range mail {
		s.add(fmt.Sprintf("u%04d", i), raw)
	}
	s.pop.Hook = s.command
	for i := range boxes {
		s.boxes = append(s.boxes, &targetstest.IMAP{
			Hook: func(c targetstest.Command) targetstest.Action {
				s.mu.Lock()
				hook := s.imapHook
				s.mu.Unlock()
				if hook == nil {
					return targetstest.Action{}
				}
				return hook(i, c)
			},
			Reject: func(body []byte) string { s.arrives(i, body); return "" },
		})
	}
	return s
}

func (s *scripted) add(uidl, raw string) {
	s.pop.Add("jane", uidl, []byte(raw))
	h := canonOf([]byte(wire(raw)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source[h]++
}

func (s *scripted) start() *scripted {
	if err := s.pop.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.run.POP = login{Port: s.pop.Port(), User: "jane", Password: "secret"}
	for _, b := range s.boxes {
		if err := b.Start(); err != nil {
			s.t.Fatal(err)
		}
		s.run.Targets = append(s.run.Targets, login{Port: b.Port(), User: targetstest.User, Password: targetstest.Password})
	}
	return s
}

// addMaildir adds a target after those that are servers. It is called after start.
func (s *scripted) addMaildir() {
	s.run.Targets = append(s.run.Targets, login{Maildir: filepath.Join(s.dir, targetName(len(s.run.Targets)))})
}

// files are the files in directories of a Maildir, by their names.
func (s *scripted) files(target int, dirs ...string) map[string]string {
	out := map[string]string{}
	for _, d := range dirs {
		dir := filepath.Join(s.run.Targets[target].Maildir, d)
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.errorf("%v", err)
		}
		for _, f := range list {
			if f.IsDir() {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				s.errorf("%v", err)
			}
			out[f.Name()] = string(raw)
		}
	}
	return out
}

func (s *scripted) close() {
	s.pop.Close()
	for _, b := range s.boxes {
		b.Close()
	}
	s.trial.close()
}

func (s *scripted) hash(body []byte) targets.Hash {
	if len(body) == 0 {
		return canonOf(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.hashes[&body[0]]
	if !ok {
		h = canonOf([]byte(wire(string(body))))
		s.hashes[&body[0]] = h
	}
	return h
}

func (s *scripted) stored(i int) map[targets.Hash]int {
	out := map[targets.Hash]int{}
	if i >= len(s.boxes) {
		for _, raw := range s.files(i, "new", "cur") {
			out[canonOf([]byte(raw))]++
		}
		return out
	}
	for _, m := range s.boxes[i].Messages("INBOX") {
		out[s.hash(m.Body)]++
	}
	return out
}

func (s *scripted) left() map[targets.Hash]int {
	out := map[targets.Hash]int{}
	for _, m := range s.pop.Messages("jane") {
		out[s.hash(m.Body)]++
	}
	return out
}

func (s *scripted) quiet() {
	s.pop.Quiet()
	for _, b := range s.boxes {
		b.Ended(b.Count(""))
	}
}

func (s *scripted) traffic() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := fmt.Sprintf("%d RETR, %d DELE", s.verbs["RETR"], s.verbs["DELE"])
	for i, b := range s.boxes {
		// Not connections: one that a dead child began may be taken only now.
		logins := b.Count("LOGIN") + b.Count("AUTHENTICATE")
		out += fmt.Sprintf(", %d logins and %d APPENDs at %s", logins, b.Count("APPEND"), targetName(i))
	}
	for i, l := range s.run.Targets {
		if l.Maildir == "" {
			continue
		}
		out += fmt.Sprintf(", at %s %q", targetName(i), slices.Sorted(maps.Keys(s.files(i, ".", "tmp", "new", "cur"))))
	}
	return out
}

// command sees what the POP3 server is told.
func (s *scripted) command(session int, cmd string) maildroptest.Action {
	verb, arg, _ := strings.Cut(cmd, " ")
	s.mu.Lock()
	s.verbs[verb]++
	if verb == "UIDL" && s.lists[session] == nil {
		s.lists[session], s.marked[session] = s.pop.Messages("jane"), map[targets.Hash]int{}
	}
	hook := s.popHook
	s.mu.Unlock()
	if verb == "DELE" {
		s.deletes(session, arg)
	}
	if hook == nil {
		return maildroptest.Action{}
	}
	return hook(session, cmd)
}

// deletes demands that a message about to be deleted is at every target, once
// for every one like it that was deleted, and that the state knows.
func (s *scripted) deletes(session int, arg string) {
	n, err := strconv.Atoi(arg)
	s.mu.Lock()
	list := s.lists[session]
	s.mu.Unlock()
	if err != nil || n < 1 || n > len(list) {
		s.errorf("DELE %s, of %d messages", arg, len(list))
		return
	}
	m := list[n-1]
	h := s.hash(m.Body)
	s.mu.Lock()
	s.marked[session][h]++
	need := s.source[h] - count(list, func(o maildroptest.Message) bool { return string(o.Body) == string(m.Body) }) + s.marked[session][h]
	s.mu.Unlock()
	for i, where := range s.run.places() {
		if have := s.ends.stored(i)[h]; have < need {
			s.errorf("DELE of %s, and %s has %d copies, not %d", m.UIDL, where, have, need)
		}
	}
	if s.careless {
		return
	}
	err = s.view(func(st *state.Store, live []int64) error {
		ms, err := st.Messages(context.Background(), live...)
		for _, row := range ms {
			if row.UIDL == m.UIDL && row.Status != state.StatusSafe {
				s.errorf("DELE of %s, which is not on disk as delivered but as %s", m.UIDL, row.Status)
			}
		}
		return err
	})
	if err != nil {
		s.errorf("DELE: the state cannot be read: %v", err)
	}
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

// arrives demands that a message that comes in at a target has its intent on
// disk.
func (s *scripted) arrives(target int, body []byte) {
	if s.careless {
		return
	}
	h := canonOf(body)
	intents := 0
	err := s.view(func(st *state.Store, live []int64) error {
		ms, err := st.Messages(context.Background(), live...)
		if err != nil {
			return err
		}
		var alike []int64
		for _, m := range ms {
			if m.Content != nil && targets.Hash(m.Hash) == h {
				alike = append(alike, m.ID)
			}
		}
		ds, err := st.Deliveries(context.Background(), alike...)
		intents = count(ds, func(d state.Delivery) bool {
			return d.Target == targetName(target) && d.Status == state.DeliveryIntent
		})
		return err
	})
	switch {
	case err != nil:
		s.errorf("APPEND: the state cannot be read: %v", err)
	case intents == 0:
		s.errorf("message %.8s arrives at %s, and no intent is on disk", h, targetName(target))
	}
}
