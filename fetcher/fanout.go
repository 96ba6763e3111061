package fetcher

import (
	"slices"
	"strings"

	"popferry/fetcher/state"
)

// A message with several targets is safe when all of them have it. Each copy is
// a delivery of its own: what is there stays, and only what is missing is tried
// again. For that a message must be downloaded once more, and it is only while
// one of the targets that lack it takes anything.

// lacking returns the targets that are to get a message and have not; for one
// that has not been routed yet, all of the job.
func (p *pass) lacking(recorded []state.Delivery) []string {
	var names []string
	for _, d := range recorded {
		if d.Status != state.DeliveryDelivered && !slices.Contains(names, d.Target) {
			names = append(names, d.Target)
		}
	}
	if len(names) == 0 {
		return slices.Sorted(slices.Values(p.job.Targets))
	}
	slices.Sort(names)
	return names
}

// byLacking divides groups of items once more, by the targets that lack them. Those
// that all lack come first; the order stays otherwise.
func (p *pass) byLacking(groups [][]item, recorded map[int64][]state.Delivery) [][]item {
	if len(recorded) == 0 {
		return groups
	}
	all := strings.Join(p.lacking(nil), "\n")
	var out [][]item
	for _, items := range groups {
		index := map[string]int{}
		var parts [][]item
		for _, it := range items {
			key := strings.Join(p.lacking(recorded[it.msg.ID]), "\n")
			i, ok := index[key]
			switch {
			case !ok && key == all:
				for k := range index {
					index[k]++
				}
				parts = slices.Insert(parts, 0, nil)
			case !ok:
				i = len(parts)
				parts = append(parts, nil)
			}
			index[key] = i
			parts[i] = append(parts[i], it)
		}
		out = append(out, parts...)
	}
	return out
}

// nowhereToGo reports whether downloading a message makes no sense in this pass:
// the state has failed, or none of the targets that lack it takes anything. Of one
// that is not in the job any more a person must be told, by the delivery.
func (p *pass) nowhereToGo(lacking []string) bool {
	if p.dead() != nil {
		return true
	}
	return !slices.ContainsFunc(lacking, func(name string) bool {
		s := p.sinks[name]
		return s == nil || s.downErr() == nil
	})
}
