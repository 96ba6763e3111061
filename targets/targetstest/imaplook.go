package targetstest

import (
	"slices"
	"sort"
)

// Messages returns what a folder has, nil if it is not there.
func (s *IMAP) Messages(folder string) []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.folders[folder]; f != nil {
		return append([]Stored{}, f.messages...)
	}
	return nil
}

// Put stores a message as if another client had.
func (s *IMAP) Put(folder string, m Stored) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folder]
	if f == nil {
		f = s.makeLocked(folder)
	}
	return f.add(m)
}

// Expunge removes a message as another client would.
func (s *IMAP) Expunge(folder string, uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folder]
	f.messages = slices.DeleteFunc(f.messages, func(m Stored) bool { return m.UID == uid })
}

// Folders returns the names of all folders; Subscribed those subscribed to.
func (s *IMAP) Folders() []string { return s.names(func(string) bool { return true }) }

// Subscribed returns the names of the folders subscribed to.
func (s *IMAP) Subscribed() []string { return s.names(func(n string) bool { return s.subs[n] }) }

func (s *IMAP) names(keep func(string) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for n := range s.folders {
		if keep(n) {
			list = append(list, n)
		}
	}
	sort.Strings(list)
	return list
}

// Delete removes a folder behind everybody's back.
func (s *IMAP) Delete(folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.folders, folder)
}

// Renew gives a folder a new UIDVALIDITY and its messages new UIDs from 1.
func (s *IMAP) Renew(folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.folders[folder].messages
	f := s.makeLocked(folder)
	for _, m := range old {
		f.add(m)
	}
}

// SetUIDNext makes the next message that a folder gets lie at uid.
func (s *IMAP) SetUIDNext(folder string, uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.folders[folder].next = uid
}

// Count returns how often a verb was seen; "" counts connections.
func (s *IMAP) Count(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[verb]
}

// UIDNext returns where a folder's next message will lie.
func (s *IMAP) UIDNext(folder string) (validity, next uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folder]
	return f.validity, f.next
}

// Ended waits until n connections have ended: what they sent is dealt with.
func (s *IMAP) Ended(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ended < n {
		s.change.Wait()
	}
}
