package daemon

import (
	"fmt"
	"strings"
	"time"
)

// tolerated is how many passes in a row may fail for a reason that goes away by
// itself, such as a server that is not there, before a job counts as broken.
const tolerated = 2

// judge says of each job whether it is fine, and of all of them in one sentence.
func (st *Status) judge() {
	st.OK = true
	worst := []*JobStatus{}
	for i := range st.Jobs {
		j := &st.Jobs[i]
		j.OK, j.Problem, j.Failures = true, nil, 0
		j.Running, j.Next = false, time.Time{}
		for k := range st.Accounts {
			if a := &st.Accounts[k]; a.Job == j.Name {
				j.take(a)
			}
		}
		if !j.OK {
			st.OK = false
			worst = append(worst, j)
		}
	}
	st.Summary = st.sentence(worst)
}

// take adds an account to its job.
func (j *JobStatus) take(a *AccountStatus) {
	j.Running = j.Running || a.Running
	if !a.Next.IsZero() && (j.Next.IsZero() || a.Next.Before(j.Next)) {
		j.Next = a.Next
	}
	// One that never worked is hardly an accident.
	accident := a.Failures <= tolerated && !a.LastSuccess.IsZero() && (a.Problem == nil || a.Problem.Exit == 69 || a.Problem.Exit == exitLater)
	if a.Failures > j.Failures {
		j.Failures = a.Failures
	}
	if a.Problem == nil || accident {
		return
	}
	j.OK = false
	if j.Problem == nil || j.Problem.Exit != a.Problem.Exit && Worse(j.Problem.Exit, a.Problem.Exit) == a.Problem.Exit {
		j.Problem, j.failingFrom, j.tries = a.Problem, a.FailingFrom, a.Failures
	}
}

// sentence sums it all up.
func (st *Status) sentence(bad []*JobStatus) string {
	jobs := len(st.Jobs)
	if len(bad) > 0 {
		head := fmt.Sprintf("%d of %d jobs need you: ", len(bad), jobs)
		switch {
		case jobs == 1:
			head = "The job needs you: "
		case len(bad) == 1:
			head = fmt.Sprintf("1 of %d jobs needs you: ", jobs)
		}
		var parts []string
		for _, j := range bad[:min(len(bad), 2)] {
			parts = append(parts, j.why(st.Time))
		}
		if more := len(bad) - len(parts); more > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", more))
		}
		return head + strings.Join(parts, "; ") + "."
	}
	text := fmt.Sprintf("All %d jobs are fine.", jobs)
	if jobs == 1 {
		text = "The job is fine."
	}
	return text + " " + st.coming()
}

// why says what is wrong with a job, and since when.
func (j *JobStatus) why(now time.Time) string {
	text := j.Problem.Head
	if j.tries > 0 && !j.failingFrom.IsZero() {
		tries := "1 try"
		if j.tries > 1 {
			tries = fmt.Sprintf("%d tries", j.tries)
		}
		text += fmt.Sprintf(" since %s (%s)", clock(j.failingFrom, now), tries)
	}
	return text
}

// coming says when something happens next.
func (st *Status) coming() string {
	if !st.Serving {
		return "Nothing is scheduled: popferry serve does not run."
	}
	var next time.Time
	for _, j := range st.Jobs {
		if j.Running {
			return "A pass is under way."
		}
		if !j.Next.IsZero() && (next.IsZero() || j.Next.Before(next)) {
			next = j.Next
		}
	}
	switch {
	case next.IsZero():
		return "All run by hand only."
	case !next.After(st.Time):
		return "Next pass now."
	}
	return "Next pass in " + roughly(next.Sub(st.Time)) + "."
}

// clock is a time for people: of today the time alone.
func clock(t, now time.Time) string {
	t, now = t.In(now.Location()), now.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04")
	}
	if now.Sub(t) < 300*24*time.Hour {
		return t.Format("Jan 2 15:04")
	}
	return t.Format(time.DateOnly)
}

// roughly is a duration as people say it: "40 s", "3 min", "2 h", "5 days".
func roughly(d time.Duration) string {
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second)/time.Second)))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d h", int(d.Round(time.Hour)/time.Hour))
	}
	return fmt.Sprintf("%d days", int((d+12*time.Hour)/(24*time.Hour)))
}

// shortly is a duration as configurations have it: "5m", "1h30m".
func shortly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if days := d / (24 * time.Hour); days > 0 && d%(24*time.Hour) == 0 {
		s = fmt.Sprintf("%dd", days)
	}
	return s
}
