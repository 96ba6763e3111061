package targetstest

import (
	"cmp"
	"hash/maphash"
	"slices"
	"testing"

	"popferry/targets"
)

// testExamine: what lies in a folder is told with its size, its Message-ID and its
// contents, and nothing is made or changed by that.
func testExamine(t *testing.T, s Sink) {
	x, ok := s.Target.(targets.Examiner)
	if !ok {
		t.Fatal("this target is no examiner")
	}
	seed := maphash.MakeSeed()
	key := func(id string) uint64 { return maphash.String(seed, id) }
	if box, err := x.Box(t.Context(), "Lists/go"); box != "" || err != nil {
		t.Errorf("Box of a folder that is not there: %q, %v", box, err)
	}
	if copies, mark, err := x.Examine(t.Context(), "Nowhere", key); len(copies) > 0 || mark.UIDValidity != 0 || err != nil {
		t.Errorf("Examine of a folder that is not there: %v, %v, %v", copies, mark, err)
	}
	var raws []string
	for _, raw := range s.contents() {
		raws = append(raws, raw)
	}
	for i := range 300 { // more than are read at once
		raws = append(raws, Text(i))
	}
	uids := map[uint32]string{}
	for _, raw := range raws {
		r := deliver(t, s, raw, targets.Dest{Folder: "Lists/go"})
		uids[r.UID] = raw
	}
	deliver(t, s, Text(1000), targets.Dest{})
	before := s.Read("Lists/go")

	box, err := x.Box(t.Context(), "Lists/go")
	if err != nil || box == "" {
		t.Fatalf("Box: %q, %v", box, err)
	}
	home, err := x.Box(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := x.Boxes(t.Context())
	if err != nil || !slices.Contains(boxes, box) || !slices.Contains(boxes, home) || slices.Contains(boxes, "Nowhere") {
		t.Errorf("Boxes: %q, %v; want %q and %q", boxes, err, box, home)
	}
	copies, mark, err := x.Examine(t.Context(), box, key)
	if err != nil || len(copies) != len(raws) || mark.UIDValidity == 0 || mark.Folder != box {
		t.Fatalf("Examine: %d copies of %d, %+v, %v", len(copies), len(raws), mark, err)
	}
	if !slices.IsSortedFunc(copies, func(a, b targets.Copy) int { return cmp.Compare(a.UID, b.UID) }) {
		t.Error("the copies are not in order")
	}
	hashes := map[uint32]targets.Hash{}
	if err := x.Hashes(t.Context(), mark, copies, func(uid uint32, h targets.Hash) { hashes[uid] = h }); err != nil {
		t.Fatal(err)
	}
	if len(uids) == len(raws) { // else the server does not say them
		for _, k := range copies {
			w := WantedOf(uids[k.UID])
			near := k.Size >= w.Size-2 && k.Size <= w.Size+2
			if w.Size > int64(len(uids[k.UID])+2) {
				near = k.Size > 0 // a server that keeps bare LFs counts them as they are
			}
			if !near || k.Key != key(w.MessageID) || hashes[k.UID] != w.Hash {
				t.Errorf("%d: size %d, want %d; Message-ID %v; hash %v", k.UID, k.Size, w.Size, k.Key == key(w.MessageID), hashes[k.UID] == w.Hash)
			}
		}
	}
	missing := targets.Copy{UID: copies[len(copies)-1].UID + 1}
	if err := x.Hashes(t.Context(), mark, []targets.Copy{missing}, func(uid uint32, _ targets.Hash) { t.Errorf("hash of %d, which is not there", uid) }); err != nil {
		t.Error(err)
	}
	mark.UIDValidity++
	if err := x.Hashes(t.Context(), mark, copies, func(uint32, targets.Hash) {}); err == nil {
		t.Error("Hashes of a folder numbered anew")
	}
	for i, after := range s.Read("Lists/go") {
		if after.UID != before[i].UID || !slices.Equal(after.Flags, before[i].Flags) {
			t.Errorf("%d was changed: %q, now %q", after.UID, before[i].Flags, after.Flags)
		}
	}
	if again, err := x.Boxes(t.Context()); err != nil || !slices.Equal(again, boxes) {
		t.Errorf("Boxes: %q, %v; before it was %q", again, err, boxes)
	}
}
