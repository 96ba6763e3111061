// Package daemon runs jobs on schedule and tells how it goes.
//
// # Schedule
//
// Every account has a goroutine that waits until its job is due, runs one pass,
// and works out when the next one is. So the passes over one account never
// overlap, and no account waits for another: only the beginnings of passes are
// bounded (Daemon.Parallel), and one that takes long does not count.
//
// A job with every: runs on a grid, one with cron: at the times it names; config
// closes the gaps that the library has when clocks are changed. What could not
// run in time, because a pass took long or the machine slept, runs once, late.
// Accounts are spread by a delay of their own (jitter), which is drawn once, so
// that two passes are never closer than the job says.
//
// After passes that failed the pauses grow, up to half an hour or the job's own
// interval. A server's own wishes come first: LOGIN-DELAY, and how long an error
// asks to wait. Logins that were refused three times wait as endpoint.Breaker
// says, because providers lock accounts. Nobody's wish makes
// passes denser than the job says, but Daemon.RunNow.
//
// # Reload
//
// Reload reads the configuration again. One with errors changes nothing. Passes
// under way end with what they began with; targets that are the same stay
// connected.
//
// # Telling
//
// Status says how jobs and accounts are doing, and Health whether somebody should
// look at the process itself. Both come from the history in the state file and
// from what is going on now. Daemon.Watch and Daemon.PassDone are where metrics
// and notifications attach. A control socket beside the state gives the same to
// other processes of the same user: see Ask.
package daemon
