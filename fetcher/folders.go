package fetcher

import (
	"context"
	"fmt"
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

// limitFolders sends copies to the target's own folder whose folders are named
// by the mail itself, are not there, and would be too many. It must be done
// before the route is on record.
func (p *pass) limitFolders(ctx context.Context, l *letter) {
	if l.routed {
		return
	}
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
