package daemon

import (
	"context"
	"errors"
	"strings"

	"popferry/fetcher"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

const (
	temporary = "temporary" // the next pass may well succeed, nobody needs to do anything
	permanent = "permanent"
)

// classify says of an error at which stage of a pass it came up (connect, tls,
// auth, list, fetch, deliver or state) and whether it goes away by itself. What
// cannot be told is temporary, because the mail is still on the maildrop. Both
// are "" for what is no failure.
func classify(err error) (stage, class string) {
	var (
		ee *endpoint.Error
		me *maildrop.Error
		te *targets.Error
		se *state.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, fetcher.ErrBusy):
		return "", ""
	case errors.As(err, &ee): // also of targets
		return ee.Stage, either(ee.Stage == "connect" && ee.Code != "host-unknown" || ee.Code == "tls-failed")
	case errors.As(err, &me):
		return stageOf(me), either(maildrop.Temporary(err))
	case errors.As(err, &te):
		if strings.HasPrefix(te.Op, "login") {
			return "auth", either(te.Reply == "")
		}
		return "deliver", either(te.Fault != targets.Refused)
	case errors.As(err, &se):
		return "state", either(se.Code == state.CodeLocked)
	}
	return "fetch", temporary
}

func either(goesAway bool) string {
	if goesAway {
		return temporary
	}
	return permanent
}

// stageOf goes by the command that failed.
func stageOf(e *maildrop.Error) string {
	if e.Kind == maildrop.LoginRefused || e.Code == maildrop.InUse || e.Code == maildrop.LoginDelay {
		return "auth"
	}
	verb, _, _ := strings.Cut(e.Op, " ")
	switch verb {
	case "greeting", "CAPA":
		return "connect"
	case "STLS":
		return "tls"
	case "USER", "PASS", "APOP", "AUTH", "login":
		return "auth"
	case "STAT", "LIST", "UIDL":
		return "list"
	}
	return "fetch"
}
