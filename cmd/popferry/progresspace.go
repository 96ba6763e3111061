package main

import (
	"fmt"
	"math"
	"time"

	"popferry/targets"
)

// How far back a pace is measured: half a minute, or longer where messages are
// few and large, but nothing that was so long ago that it says nothing of now.
const (
	paceSpan    = 30 * time.Second
	paceMoments = 8 // seconds with something in them
	paceMost    = 5 * time.Minute
	paceLeast   = 2 * time.Second
)

// pace measures octets a second.
type pace struct {
	began time.Time
	slots []moment // by second
}

func (p *pace) add(at time.Time, octets int64) {
	if p.began.IsZero() {
		p.began = at
	}
	at = at.Truncate(time.Second)
	if n := len(p.slots); n > 0 && !p.slots[n-1].at.Before(at) {
		p.slots[n-1].octets += octets
		return
	}
	p.slots = append(p.slots, moment{at, amount{octets: octets}})
	for at.Sub(p.slots[0].at) > paceMost {
		p.began, p.slots = p.slots[0].at.Add(time.Second), p.slots[1:]
	}
}

// rate is the pace over whole seconds; 0 until there is something to say, and
// when nothing has come for long.
func (p *pace) rate(now time.Time) float64 {
	now = now.Truncate(time.Second) // a second that is not over says little
	from, octets := p.began, int64(0)
	for i, m := range p.slots {
		past, few := now.Sub(m.at), len(p.slots)-i <= paceMoments
		switch {
		case past <= 0:
		case past > paceMost, past > paceSpan && !few:
			from, octets = m.at.Add(time.Second), 0
		default:
			octets += m.octets
		}
	}
	took := min(now.Sub(from), paceMost)
	if octets == 0 || took < paceLeast {
		return 0
	}
	return float64(octets) / took.Seconds()
}

// ration is a rate, what it lets through still has to go, and what has been used
// up of it.
type ration struct {
	rate        targets.Rate
	left, spent amount
}

// timeLeft is how long what is left takes, at a pace in octets a second and as
// far as rates allow; ok is false where nobody can say.
func timeLeft(left amount, pace float64, rations []ration) (d time.Duration, ok bool) {
	switch {
	case left.messages == 0:
		return 0, true
	case left.octets == 0, pace <= 0: // LIST lied, or nothing moves
		return 0, false
	}
	seconds := float64(left.octets) / pace
	for _, r := range rations {
		seconds = max(seconds, r.seconds(pace))
	}
	if seconds > (1000 * 24 * time.Hour).Seconds() {
		return 0, false
	}
	return time.Duration(math.Ceil(seconds)) * time.Second, true
}

// seconds is how long a rate makes what is left take. One up to a minute is kept
// to all the time. One over an hour or a day lets through what it has left at
// once, and the same again each time it is full: these pauses count, at worst
// one too many, as what was used up comes back bit by bit.
func (r ration) seconds(pace float64) float64 {
	left, spent := float64(r.left.messages), float64(r.spent.messages)
	if r.rate.Octets {
		left, spent = float64(r.left.octets), float64(r.spent.octets)
	}
	n, per := float64(r.rate.N), r.rate.Per.Seconds()
	if r.rate.Per < time.Hour {
		return left / n * per
	}
	over := left - max(0, n-spent)
	if over <= 0 {
		return 0
	}
	pauses := math.Ceil(over / n)
	last := over - (pauses-1)*n // goes after the last of them
	return pauses*per + float64(r.left.octets)*last/left/pace
}

// eta writes a time that is left as people say it: "6s", "5m12s", "3h20m",
// "2d4h".
func eta(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}
