package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"

	"popferry/targets"
)

// facts are what the first login taught about the server, with the capabilities
// of the last. They are replaced, never changed: others read them unlocked.
type facts struct {
	caps   caps
	delim  string // between the levels of a folder name; "" where there are none
	prefix string // of personal folders, "INBOX." on some servers
}

// learn asks what the pool needs to know and does not yet.
func (t *Target) learn(c *conn) error {
	t.mu.Lock()
	known := t.facts != nil
	if known {
		t.facts = &facts{caps: c.caps, delim: t.facts.delim, prefix: t.facts.prefix}
	}
	t.mu.Unlock()
	if known {
		return nil
	}
	// Both questions travel together.
	var spaces interface {
		Wait() (*imap.NamespaceData, error)
	}
	if c.caps["NAMESPACE"] || c.caps.rev2Only() {
		spaces = c.client.Namespace()
	}
	roots, err := c.client.List("", "", nil).Collect()
	if err != nil {
		return t.wrap("LIST", listError(c, err))
	}
	f := &facts{caps: c.caps}
	for _, r := range roots {
		if r.Delim != 0 {
			f.delim = string(r.Delim)
		}
	}
	if spaces != nil {
		data, err := spaces.Wait()
		if c.failed() != nil {
			return t.wrap("NAMESPACE", listError(c, err))
		}
		if err == nil && len(data.Personal) > 0 {
			p := data.Personal[0]
			f.prefix = p.Prefix
			if p.Delim != 0 {
				f.delim = string(p.Delim)
			}
		}
	}
	t.mu.Lock()
	t.facts = f
	t.mu.Unlock()
	return nil
}

// listError prefers the reason why the connection ended to go-imap's view of it.
func listError(c *conn, err error) error {
	if why := c.failed(); why != nil {
		if words := c.farewell(); words != "" {
			return &targets.Error{Fault: targets.Down, Op: "connection", Reply: words, Err: why}
		}
		return why
	}
	return err
}

// serverName makes the server's folder name of one from the configuration,
// whose levels are separated by "/". Names that no server takes are errors.
func (f *facts) serverName(name string) (string, error) {
	levels := strings.Split(name, "/")
	for i, l := range levels {
		switch {
		case l == "" || l == "." || l == "..":
			return "", fmt.Errorf("the folder name %q has a level %q", name, l)
		case !utf8.ValidString(l) || strings.ContainsFunc(l, unicode.IsControl):
			return "", fmt.Errorf("the folder name %q has octets that no name can have", name)
		}
		if f.delim != "" {
			levels[i] = strings.ReplaceAll(l, f.delim, "_")
		}
	}
	if strings.EqualFold(levels[0], "INBOX") {
		levels[0] = "INBOX"
	}
	sep := f.delim
	if sep == "" {
		sep = "_"
	}
	full := strings.Join(levels, sep)
	if full != "INBOX" && !strings.HasPrefix(full, f.prefix) {
		full = f.prefix + full
	}
	if len(wireName(full, f.caps.rev2Only())) > maxName {
		return "", fmt.Errorf("the folder name %q is too long", full[:64]+"…")
	}
	return full, nil
}

// withoutDots is the name to try where a server takes no dots (Dovecot on
// Maildir++, where they separate levels on disk).
func (f *facts) withoutDots(name string) string {
	if f.delim == "." {
		return name
	}
	rest, _ := strings.CutPrefix(name, f.prefix)
	return name[:len(name)-len(rest)] + strings.ReplaceAll(rest, ".", "_")
}

// wireName is a name as it stands in a command: quoted, in modified UTF-7
// (RFC 3501 §5.1.3), or as go-imap writes it to IMAP4rev2 servers.
func wireName(name string, rev2 bool) string {
	if name == "INBOX" {
		return name
	}
	if rev2 {
		return quote(strings.ReplaceAll(name, "&", "&-"))
	}
	return quote(targets.UTF7(name))
}

// folder is one folder of the account.
type folder struct {
	name string // as the server calls it
	wire string // as it stands in a command

	// gen counts the times that what an EXAMINE had told turned out to be of
	// another folder, or of none. Changed under Target.mu.
	gen atomic.Uint32

	// exists is about how many messages it holds.
	exists atomic.Int64

	// Guarded by Target.mu.
	queue          []*job
	inFlight       int  // its APPENDs unanswered, on all connections
	frozen         int  // Find looks at it: nothing may be sent
	known          bool // the rest is valid
	validity, next uint32
	limit          int64 // largest message, 0 for none
}

// outdatedLocked notes that the folder is no longer the one that exam looked at:
// Mark looks again, and so does every connection before its next APPEND there.
func (f *folder) outdatedLocked(exam *command) {
	if exam.gen == f.gen.Load() { // else that is known
		f.gen.Add(1)
		f.known = false
	}
}

// bigFolder is how many messages make every command in a folder dear. Dovecot
// reads the whole directory of a Maildir again whenever somebody else has
// changed it, and with every APPEND of unread mail to one that was opened with
// EXAMINE.
const bigFolder = 20_000

func (f *folder) big() bool { return f.exists.Load() >= bigFolder }

// opening is the command to open the folder with before an APPEND. SELECT takes
// \Recent from other clients, which few still look at; where every APPEND would
// cost a quarter of a second without it, it is worth that.
func (f *folder) opening() string {
	if f.big() {
		return "SELECT"
	}
	return "EXAMINE"
}

// opens tells whether cmd opens its folder.
func (cmd *command) opens() bool { return cmd.verb == "EXAMINE" || cmd.verb == "SELECT" }

func (f *folder) op() string { return fmt.Sprintf("APPEND to %q", f.name) }

// openingCall is the one attempt to ready a folder for which all wait.
type openingCall struct {
	done   chan struct{}
	folder *folder
	err    error
}

// home is where messages go that name no folder.
func (t *Target) home() string { return cmp.Or(t.cfg.Folder, "INBOX") }

// open returns the folder that the configuration or a rule calls name, made
// ready: it exists, or has been made, and where it ends is known. However many
// ask at once, it is done once.
func (t *Target) open(ctx context.Context, name string) (*folder, error) {
	if name == "" {
		name = t.home()
	}
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	t.mu.Lock()
	if f := t.aliases[name]; f != nil && f.known {
		t.mu.Unlock()
		return f, nil
	}
	if t.closed {
		t.mu.Unlock()
		return nil, errTargetClosed
	}
	call := t.opening[name]
	if call == nil {
		call = &openingCall{done: make(chan struct{})}
		t.opening[name] = call
		t.wg.Go(func() { t.prepare(name, call) })
	}
	t.mu.Unlock()
	select {
	case <-call.done:
		return call.folder, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *Target) prepare(name string, call *openingCall) {
	for range 1 + maxLosses {
		var c *conn
		if c, call.err = t.acquire(t.ctx, false); call.err != nil {
			break
		}
		call.folder, call.err = t.prepareOn(c, name)
		t.leave(c)
		if call.err == nil || c.usable() {
			break
		}
		call.err = t.wrap(fmt.Sprintf("EXAMINE %q", name), listError(c, call.err))
	}
	t.mu.Lock()
	if call.err == nil {
		t.aliases[name] = call.folder
	}
	delete(t.opening, name)
	t.mu.Unlock()
	close(call.done)
}

// prepareOn examines the folder on c, and makes it if it is not there.
func (t *Target) prepareOn(c *conn, name string) (*folder, error) {
	t.mu.Lock()
	facts := t.facts
	t.mu.Unlock()
	full, err := facts.serverName(name)
	if err != nil {
		return nil, &targets.Error{Fault: targets.Refused, Op: "EXAMINE", Err: err}
	}
	f := t.folderNamed(full)
	missing := t.examine(c, f)
	if missing == nil || targets.FaultOf(missing) == targets.Down || c.failed() != nil {
		return f, missing
	}
	if !t.cfg.CreateFolders {
		return nil, &targets.Error{Op: fmt.Sprintf("EXAMINE %q", full), Err: missing}
	}
	err = t.create(c, f)
	if other := facts.withoutDots(full); isCode(err, imap.ResponseCodeCannot) && other != full {
		f = t.folderNamed(other)
		if missing = t.examine(c, f); missing == nil {
			return f, nil
		}
		err = t.create(c, f)
	}
	if isCode(err, imap.ResponseCodeCannot) && name != t.home() {
		// A name made of what stands in a mail must not keep that mail out.
		t.log.Warn("the server cannot have such a folder; messages for it go to the target's own",
			"target", t.name, "folder", f.name, "reply", printable(err.Error()))
		return t.prepareOn(c, t.home())
	}
	if isCode(err, imap.ResponseCodeAlreadyExists) {
		// It is there and cannot be opened. Dovecot's process for a connection
		// may be at odds with a folder until it ends; another may not.
		c.retire(missing)
		return nil, missing
	}
	if err != nil {
		return nil, createError(f.name, err)
	}
	return f, t.examine(c, f)
}

// folderNamed returns the one folder of that name on the server.
func (t *Target) folderNamed(full string) *folder {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.folders[full]
	if f == nil {
		f = &folder{name: full, wire: wireName(full, t.facts.caps.rev2Only())}
		f.limit, _ = t.facts.caps.appendLimit()
		t.folders[full] = f
	}
	return f
}

// examine opens f on c. What it tells reaches the folder through examinedLocked,
// as for every EXAMINE; where folders have limits of their own that is asked for
// in the same flight.
func (t *Target) examine(c *conn, f *folder) error {
	cmd, err := c.ask("EXAMINE", f)
	if err != nil {
		return err
	}
	if _, perBox := c.caps.appendLimit(); perBox {
		data, err := c.client.Status(f.name, &imap.StatusOptions{AppendLimit: true}).Wait()
		if err == nil && data.AppendLimit != nil {
			t.mu.Lock()
			f.limit = int64(*data.AppendLimit)
			t.mu.Unlock()
		}
	}
	<-cmd.ended
	if cmd.err != nil {
		return cmd.err
	}
	if cmd.reply.status != "OK" {
		return cmd.reply.error(fmt.Sprintf("EXAMINE %q", f.name))
	}
	if cmd.box.next == 0 {
		t.askNext(c, cmd)
	}
	return nil
}

// askNext asks an old server where the folder that was examined ends. It must
// not be done where EXAMINE said so: servers dislike STATUS of an open folder.
func (t *Target) askNext(c *conn, exam *command) {
	data, err := c.client.Status(exam.folder.name, &imap.StatusOptions{UIDNext: true, UIDValidity: true}).Wait()
	if err != nil || data.UIDValidity != exam.box.validity {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := exam.folder; f.known && f.validity == data.UIDValidity {
		f.next = max(f.next, uint32(data.UIDNext))
	}
}

// examinedLocked takes what any EXAMINE tells about its folder. A position may
// be too small, never too large, so it moves forward only.
func (t *Target) examinedLocked(cmd *command) {
	f := cmd.folder
	if cmd.err == nil && cmd.reply.status == "OK" {
		f.exists.Store(int64(cmd.box.exists))
	}
	switch {
	case cmd.err != nil:
	case cmd.reply.status != "OK":
		f.outdatedLocked(cmd)
	case !f.known || f.validity != cmd.box.validity:
		f.known, f.validity, f.next = true, cmd.box.validity, max(1, cmd.box.next)
	default:
		f.next = max(f.next, cmd.box.next)
	}
}

// create makes f, and subscribes to it in the same flight.
func (t *Target) create(c *conn, f *folder) error {
	made := c.client.Create(f.name, nil)
	if !t.cfg.Subscribe {
		return made.Wait()
	}
	subscribed := c.client.Subscribe(f.name)
	err := made.Wait()
	if serr := subscribed.Wait(); err == nil && serr != nil {
		t.log.Warn("the folder was made but cannot be subscribed to", "target", t.name, "folder", f.name, "err", printable(serr.Error()))
	}
	return err
}

func isCode(err error, code imap.ResponseCode) bool {
	var e *imap.Error
	return errors.As(err, &e) && strings.EqualFold(string(e.Code), string(code))
}

// createError is a folder that cannot be made: the fault of the name, and so of
// the message that asks for it, unless the server says that it is its own.
func createError(name string, err error) error {
	op := fmt.Sprintf("CREATE %q", name)
	var e *imap.Error
	if !errors.As(err, &e) {
		return &targets.Error{Fault: targets.Down, Op: op, Err: err}
	}
	r := reply{status: string(e.Type), code: strings.ToUpper(string(e.Code)), text: e.Text}
	f := r.error(op)
	if r.code == "CANNOT" {
		f.Fault = targets.Refused
	}
	return f
}

// HasFolder reports whether the folder that a rule calls name is there. It makes
// none.
func (t *Target) HasFolder(ctx context.Context, name string) (bool, error) {
	t.mu.Lock()
	f := t.aliases[name]
	known := f != nil && f.known
	t.mu.Unlock()
	if known {
		return true, nil
	}
	f, err := t.existing(ctx, name)
	return f != nil, err
}

// existing returns the folder that a rule calls name, nil if it is not there.
func (t *Target) existing(ctx context.Context, name string) (*folder, error) {
	c, err := t.acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	defer t.leave(c)
	t.mu.Lock()
	facts := t.facts
	t.mu.Unlock()
	full, err := facts.serverName(name)
	if err != nil {
		return nil, &targets.Error{Fault: targets.Refused, Op: "EXAMINE", Err: err}
	}
	f := t.folderNamed(full)
	missing := t.examine(c, f)
	if other := facts.withoutDots(full); missing != nil && c.failed() == nil && other != full {
		f = t.folderNamed(other)
		missing = t.examine(c, f)
	}
	if c.failed() != nil || targets.FaultOf(missing) == targets.Down {
		return nil, t.wrap(fmt.Sprintf("EXAMINE %q", full), listError(c, missing))
	}
	if missing != nil {
		return nil, nil
	}
	return f, nil
}

// Mark makes folder ready and returns where what is delivered from now on will
// lie. Repeated, it costs nothing.
func (t *Target) Mark(ctx context.Context, name string) (targets.Mark, error) {
	f, err := t.open(ctx, name)
	if err != nil {
		return targets.Mark{}, t.wrap(fmt.Sprintf("EXAMINE %q", name), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return targets.Mark{Folder: f.name, UIDValidity: f.validity, UIDNext: f.next}, nil
}
