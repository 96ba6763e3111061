package daemon

import (
	"context"
	"math/rand/v2"
	"time"

	"popferry/fetcher/config"
)

const (
	// longestPause is how far failures make passes of a job rarer, unless its own
	// interval is longer.
	longestPause = 30 * time.Minute
	// slower is how many times its interval a job is paused at most: one that
	// runs every few seconds is to notice soon that its server is back.
	slower = 16
	// longestWish is how long a server may make us wait by what it says.
	longestWish = time.Hour
	// longestDelay likewise bounds LOGIN-DELAY.
	longestDelay = 24 * time.Hour
	// look is how often a waiting account looks at the clock: timers stand still
	// while the machine sleeps.
	look = time.Minute
	// back is how far a clock may go back unnoticed.
	back = time.Minute
)

// nextOf returns when a job that was due at base, and is not to run before
// earliest, is due. base is on the job's grid; a time of the grid that has passed
// is left out. The zero time is never.
func nextOf(j *config.Job, base, earliest time.Time) time.Time {
	switch {
	case j.Every > 0:
		next := base.Add(j.Every)
		if behind := earliest.Sub(next); behind > 0 {
			next = next.Add((behind + j.Every - 1).Truncate(j.Every))
		}
		return next
	case j.Cron != "":
		return j.Next(later(base, earliest.Add(-1)))
	}
	return time.Time{}
}

// interval is how far apart passes of a job are about a time; 0 if it runs by
// hand only.
func interval(j *config.Job, about time.Time) time.Duration {
	if j.Every > 0 {
		return j.Every
	}
	first := j.Next(about)
	if first.IsZero() {
		return 0
	}
	return j.Next(first).Sub(first)
}

// longest is how far apart two runs of a job are at most, of those that come next;
// 0 if it runs by hand only. A cron job may leave out the weekend.
func longest(j *config.Job, about time.Time) (most time.Duration) {
	for range 8 {
		most = max(most, interval(j, about))
		about = j.Next(about)
	}
	return most
}

// pause is how long nothing is done after so many failures in a row of a job with
// such an interval: the first is taken for an accident.
func pause(interval time.Duration, failures int) time.Duration {
	if failures < 2 || interval <= 0 {
		return 0
	}
	most := max(interval, min(longestPause, slower*interval))
	for range min(failures-1, 30) {
		if interval *= 2; interval >= most {
			return most
		}
	}
	return interval
}

// schedule sets when a new account is due first. d.mu is held.
func (d *Daemon) schedule(u *unit) {
	now := d.now()
	u.added = now
	u.phase = d.jitter(u.job.Jitter)
	if u.base = now; u.job.Every > 0 {
		u.base = now.Add(u.phase)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reading)
	defer cancel()
	if h, err := d.State.Passes(ctx, u.name, 1); err == nil && len(h) > 0 {
		if last := h[0].Start; u.job.Every > 0 && u.job.NoStart && last.Before(now) {
			// The grid goes on: a process that is started every day would never
			// run what is due once a day.
			u.base = last
		}
	}
	if !u.job.NoStart && interval(u.job, now) > 0 {
		u.next = now
		return
	}
	u.await(u.base, now)
}

// reschedule sets when an account is due whose job has changed its schedule.
// d.mu is held.
func (d *Daemon) reschedule(u *unit, now time.Time) {
	u.phase = d.jitter(u.job.Jitter)
	if u.base = now; u.job.Every > 0 {
		u.base = now.Add(u.phase)
	}
	u.await(u.base, later(now, u.floor))
}

// jitter draws how late an account is.
func (d *Daemon) jitter(most time.Duration) time.Duration {
	switch {
	case d.Jitter != nil:
		return d.Jitter(most)
	case most <= 0:
		return 0
	}
	return rand.N(most)
}

// after sets when an account is due again. ended is now. d.mu is held.
func (d *Daemon) after(u *unit, began, ended time.Time, o outcome) {
	step := interval(u.job, began)
	u.floor = time.Time{}
	u.delay = min(o.report.LoginDelay, longestDelay)
	if u.delay > 0 && !o.report.LoggedIn.IsZero() {
		u.floor = o.report.LoggedIn.Add(u.delay + time.Second)
	}
	if o.wish > 0 {
		u.floor = later(u.floor, ended.Add(min(o.wish, longestDelay)))
	}
	if o.busy {
		u.next = ended.Add(min(10*time.Second, max(step, time.Second)))
		return
	}
	if u.again {
		u.again, u.forced = false, true
		u.next = later(ended, u.floor)
		return
	}
	// base is the time on the grid that this pass stood for. A pass that somebody
	// asked for begins a grid of its own; a cron's stays where it is.
	base := u.base
	switch {
	case u.job.Every == 0 && u.forced:
		base = began.Add(-u.phase)
	case u.job.Every == 0:
		base = later(base, began.Add(-u.phase))
	case u.forced, began.Sub(base) > u.job.Every/10:
		base = began // it was late: the next one is not to follow at once
	}
	u.forced = false
	earliest := later(ended, u.floor)
	if n := pause(step, u.failures); n > step {
		earliest = later(earliest, base.Add(n))
	}
	u.await(base, earliest)
}

// await sets when an account is due after a time of its grid, and not before
// earliest.
func (u *unit) await(base, earliest time.Time) {
	if u.job.Every > 0 {
		u.next = nextOf(u.job, base, earliest)
		u.base = u.next
		return
	}
	u.base = nextOf(u.job, base, earliest.Add(-u.phase))
	if u.next = u.base; !u.next.IsZero() {
		u.next = u.next.Add(u.phase)
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
