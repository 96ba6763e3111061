package fetcher

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"popferry/targets"
)

// maxNewFolders is how many folders a pass may make whose names come from mail.
// Somebody who sends mail with ten thousand list names must not fill a mailbox
// with folders that its owner has to remove one by one.
const maxNewFolders = 50

// newFolders counts the folders that a pass makes. It is safe for concurrent
// use.
type newFolders struct {
	mu    sync.Mutex
	asked map[place]func() bool // whether mail may go there
	made  int
}

// settleFolders fixes where the copies of a message go, as far as only the
// targets can tell. It must be done before the route is on record.
func (p *pass) settleFolders(ctx context.Context, l *letter) {
	if !l.routed {
		p.limitFolders(ctx, l)
		p.mergeBoxes(ctx, l)
	}
}

// mergeBoxes leaves one of several copies whose folders a target calls by one
// name: its own folder and INBOX, or names that differ where it has no other
// characters.
func (p *pass) mergeBoxes(ctx context.Context, l *letter) {
	if len(l.parts) < 2 {
		return
	}
	var kept []part
	first := make(map[place]int) // index in kept
	for _, w := range l.parts {
		box, ok := p.boxOf(ctx, w)
		if i, there := first[box]; ok && there {
			for _, flag := range w.Flags {
				if !slices.ContainsFunc(kept[i].Flags, func(have string) bool { return strings.EqualFold(have, flag) }) {
					kept[i].Flags = append(slices.Clip(kept[i].Flags), flag)
				}
			}
			kept[i].dest.Flags = kept[i].Flags
			continue
		}
		if ok {
			first[box] = len(kept)
		}
		w.N = len(kept)
		kept = append(kept, w)
	}
	l.parts = kept
}

// boxOf is the folder in which a copy will lie; not ok if nobody can say.
func (p *pass) boxOf(ctx context.Context, w part) (box place, ok bool) {
	s := p.sinks[w.Target]
	if s == nil || s.finder == nil || s.downErr() != nil {
		return place{}, false
	}
	m, err := s.finder.Mark(ctx, w.Folder)
	if err != nil && w.Folder != "" && targets.FaultOf(err) == targets.Refused {
		m, err = s.finder.Mark(ctx, "") // as mark does
	}
	return place{w.Target, m.Folder}, err == nil
}

// limitFolders sends copies to the target's own folder whose folders are named
// by the mail itself, are not there, and would be too many.
func (p *pass) limitFolders(ctx context.Context, l *letter) {
	changed := false
	for i := range l.parts {
		part := &l.parts[i]
		if part.derived && !p.mayGo(ctx, p.sinks[part.Target], part.Folder) {
			part.Folder, part.dest.Folder, part.derived, changed = "", "", false, true
		}
	}
	if changed {
		l.mergeParts()
	}
}

// mayGo reports whether a folder is there, or may be made.
func (p *pass) mayGo(ctx context.Context, s *sink, folder string) bool {
	n := &p.folders
	n.mu.Lock()
	at := place{s.name, folder}
	ask := n.asked[at]
	if ask == nil {
		if n.asked == nil {
			n.asked = make(map[place]func() bool)
		}
		ask = sync.OnceValue(func() bool { return p.isThere(ctx, s, folder) || n.mayMake(p, s, folder) })
		n.asked[at] = ask
	}
	n.mu.Unlock()
	return ask()
}

// isThere reports whether a target has a folder. What cannot be found out is for
// the delivery to meet.
func (p *pass) isThere(ctx context.Context, s *sink, folder string) bool {
	looker, ok := s.target.(targets.Looker)
	if !ok {
		return false
	}
	there, err := looker.HasFolder(ctx, folder)
	return there || err != nil
}

// mayMake counts a folder that is not there.
func (n *newFolders) mayMake(p *pass, s *sink, folder string) bool {
	n.mu.Lock()
	n.made++
	made := n.made
	n.mu.Unlock()
	if made == maxNewFolders+1 {
		p.warn(fmt.Sprintf("more than %d new folders named by mail in one pass, the next one %q; messages for them go to %s's own folder", maxNewFolders, folder, s.name))
	}
	return made <= maxNewFolders
}
