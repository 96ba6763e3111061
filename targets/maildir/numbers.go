package maildir

import (
	"encoding/base32"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"popferry/targets"
)

const (
	// ourFirst is the first UID of copies that popferry makes; those below are
	// for files of others.
	ourFirst = 1 << 31
	// blockSize is how many UIDs are reserved at a time.
	blockSize = 1000
	// lastBlock is the last that fits; after it the UIDs begin anew.
	lastBlock = (1<<32-ourFirst)/blockSize - 1
)

// numbers gives each copy a UID of its own, above all that were ever given in
// this Maildir, by any process. A block of them belongs to the process that has
// created its file: such a file is only removed by one that has a later block,
// so the latest always stays, and with it the knowledge of what was given. If
// all such files are lost, a new UIDVALIDITY says that the UIDs mean nothing.
type numbers struct {
	mu        sync.Mutex
	validity  uint32
	next, end uint64 // of the block; equal when it is used up
}

// take returns the next UID.
func (n *numbers) take(t *Target) (validity, uid uint32, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fill(t); err != nil {
		return 0, 0, err
	}
	n.next++
	return n.validity, uint32(n.next - 1), nil
}

// peek returns the UID that the next take will give, or a smaller one.
func (n *numbers) peek(t *Target) (validity, next uint32, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fill(t); err != nil {
		return 0, 0, err
	}
	return n.validity, uint32(n.next), nil
}

// forget gives up the block, because the Maildir may be another one now.
func (n *numbers) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = n.end
}

func (n *numbers) fill(t *Target) error {
	if n.next < n.end {
		return nil
	}
	root, err := os.OpenRoot(t.cfg.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	b, err := reserve(root, t.now())
	if err != nil {
		return err
	}
	n.validity = b.validity
	n.next = ourFirst + uint64(b.index)*blockSize
	n.end = n.next + blockSize
	return nil
}

// block is a thousand UIDs.
type block struct{ validity, index uint32 }

func (b block) file() string { return fmt.Sprintf("%s%d-%d", blockPrefix, b.validity, b.index) }

func (b block) before(c block) bool {
	return b.validity < c.validity || b.validity == c.validity && b.index < c.index
}

// following is the next block. The clock only has to differ from what it was.
func (b block) following(now time.Time) block {
	switch {
	case b.validity == 0:
		return block{validity: uint32(now.Unix())}
	case b.index >= lastBlock:
		return block{validity: max(b.validity+1, uint32(now.Unix()))}
	}
	return block{b.validity, b.index + 1}
}

// blockPrefix begins the names of the files that reserve UIDs.
const blockPrefix = "popferry-uids-"

// reserve takes the block after the latest that there is.
func reserve(root *os.Root, now time.Time) (block, error) {
	for {
		all, err := blocks(root)
		if err != nil {
			return block{}, err
		}
		mine := latest(all).following(now)
		f, err := root.OpenFile(mine.file(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody was faster
		}
		if err != nil {
			return block{}, err
		}
		if err := f.Close(); err != nil {
			return block{}, err
		}
		// While this one looked and wrote, others may have taken this block, a
		// later one, and removed the file of this.
		if all, err = blocks(root); err != nil {
			return block{}, err
		}
		if latest(all) != mine {
			_ = root.Remove(mine.file())
			continue
		}
		if err := syncDir(root, "."); err != nil {
			return block{}, err
		}
		for _, b := range all {
			if b != mine {
				_ = root.Remove(b.file())
			}
		}
		return mine, nil
	}
}

func latest(all []block) (last block) {
	for _, b := range all {
		if last.before(b) {
			last = b
		}
	}
	return last
}

// blocks are those that have a file.
func blocks(root *os.Root) ([]block, error) {
	names, err := list(root, ".")
	var all []block
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, blockPrefix)
		if !ok {
			continue
		}
		validity, index, _ := strings.Cut(rest, "-")
		v, err1 := strconv.ParseUint(validity, 10, 32)
		i, err2 := strconv.ParseUint(index, 10, 32)
		if err1 == nil && err2 == nil {
			all = append(all, block{uint32(v), uint32(i)})
		}
	}
	return all, err
}

// hashText writes the part of a hash that is in a name: 160 bits.
var hashText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func tagOf(h targets.Hash) string { return hashText.EncodeToString(h[:20]) }

// ours stands in the names of files that popferry has made.
const ours = "_popferry_"

// uniqueName is a file's name up to the sizes, which are not known yet.
func (t *Target) uniqueName(now time.Time, validity, uid uint32, h targets.Hash) string {
	return fmt.Sprintf("%d.M%06dP%d%s%x_%x_%s.%s",
		now.Unix(), now.Nanosecond()/1000, os.Getpid(), ours, validity, uid, tagOf(h), t.host)
}

// mark is what a file's name says of the copy in it.
type mark struct {
	validity, uid uint32
	tag           string
}

// markOf reads a name; ok is false if popferry has not given it.
func markOf(name string) (m mark, ok bool) {
	_, rest, ok := strings.Cut(name, ours)
	if !ok {
		return mark{}, false
	}
	rest, _, _ = strings.Cut(rest, ".")
	parts := strings.Split(rest, "_")
	if len(parts) != 3 || len(parts[2]) != hashText.EncodedLen(20) {
		return mark{}, false
	}
	v, err1 := strconv.ParseUint(parts[0], 16, 32)
	u, err2 := strconv.ParseUint(parts[1], 16, 32)
	return mark{uint32(v), uint32(u), parts[2]}, err1 == nil && err2 == nil && v > 0 && u >= ourFirst
}

// foreignUIDs gives UIDs to files that have none of this UIDVALIDITY: always the
// same to the same name, as far as names do not collide, and never one twice.
type foreignUIDs map[uint32]bool

func (given foreignUIDs) next(base string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(base))
	uid := h.Sum32() % ourFirst
	for uid == 0 || given[uid] {
		uid = (uid + 1) % ourFirst
	}
	given[uid] = true
	return uid
}
