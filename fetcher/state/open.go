package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Options are settings of Open. The zero value is fit for use.
type Options struct {
	// New starts anew where the database is missing or damaged; a damaged one is
	// kept beside it as ".damaged-<time>". A sound one is refused with
	// CodeExists.
	New bool
	Now func() time.Time // nil is time.Now
	Log *slog.Logger     // nil discards

	free func(dir string) (uint64, error)         // tests: a full disk
	net  func(dir string) bool                    // tests: a network file system
	hook func(after bool, statement string) error // tests: see conn
}

// reserve is how much room there must be before anything is begun: enough to
// record the outcome of everything under way.
const reserve = 16 << 20

// Open opens the state at path for writing, and creates it, and its directory,
// if it was never there. Every error but ctx's is an *Error.
//
// When Open returns, the lock is held, a write has been committed, and there is
// room for more. The caller must Close the Store.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.free == nil {
		o.free = freeBytes
	}
	if o.net == nil {
		o.net = isNetwork
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, unwritable(path, err)
	}
	lock, err := takeLock(path, o.Log)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, lock: lock.f, free: o.free,
		puts: make(chan *put), quit: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := s.open(ctx, lock, &o); err != nil {
		if s.writer != nil {
			_ = s.writer.close()
		}
		_ = lock.f.Close()
		return nil, err
	}
	go s.write()
	return s, nil
}

// open does what Open promises, with the lock held. The order is the point:
// nothing is changed before everything was looked at.
func (s *Store) open(ctx context.Context, lock *lock, o *Options) error {
	there, err := checkFiles(s.path, o.Log)
	if err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	switch {
	case there:
		err = probe(ctx, s.path, o.New)
		if o.New && err == nil {
			return &Error{
				Code: CodeExists, Path: s.path, Text: fmt.Sprintf("%s is sound, so there is no reason to start anew", base(s.path)),
				Hint: "run again without --new-state, or move the file away if you want to forget what was delivered",
			}
		}
		if se := (*Error)(nil); o.New && errors.As(err, &se) && se.Code == CodeDamaged {
			there, err = false, setAside(s.path, o)
		}
	case lock.initialised && !o.New:
		return missing(s.path)
	case lock.initialised:
		err = setAside(s.path, o) // what is left of the old one
	}
	if err != nil {
		return err
	}
	if !there {
		if err := create(s.path); err != nil {
			return unwritable(s.path, err)
		}
	}
	use, err := s.openWriter(o, lock.use)
	if err != nil {
		return classify(s.path, err)
	}
	if err := errors.Join(lock.used(use), lock.mark()); err != nil {
		return unwritable(s.path, err)
	}
	s.reader, err = openConn(s.path, "ro")
	return classify(s.path, err)
}

// openWriter opens the connection for writing, brings the tables up to date and
// proves that a transaction can be committed. The lock file says how often the
// database was opened; it returns how often it was now.
func (s *Store) openWriter(o *Options, used int64) (use int64, err error) {
	if s.writer, err = openConn(s.path, "rw", "synchronous=FULL"); err != nil {
		return 0, err
	}
	if err := setJournal(s.writer, o.net(filepath.Dir(s.path))); err != nil {
		return 0, err
	}
	if err := migrate(s.writer); err != nil {
		return 0, err
	}
	s.writer.hook = o.hook
	if _, err := s.writer.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, err
	}
	if use, err = s.begin(o, used); err != nil {
		return 0, err
	}
	if _, err := s.writer.exec("COMMIT"); err != nil {
		return 0, err
	}
	clock, err := s.writer.number("SELECT value FROM meta WHERE name = 'clock'")
	if err != nil {
		return 0, err
	}
	s.clock.Store(clock)
	s.nextID, err = s.writer.number("SELECT coalesce(max(id), 0) + 1 FROM message")
	return use, err
}

// begin notes that the database is in use. What an old copy of it does not
// know was delivered may be: every account is compared with its targets, as
// after a loss.
func (s *Store) begin(o *Options, used int64) (use int64, err error) {
	if _, err := s.writer.exec("INSERT OR IGNORE INTO meta (name, value) VALUES ('created', ?), ('clock', 0), ('clean', 0), ('use', 0)", o.Now()); err != nil {
		return 0, err
	}
	if use, err = s.writer.number("SELECT value FROM meta WHERE name = 'use'"); err != nil {
		return 0, err
	}
	if use < used && use > 0 {
		o.Log.Warn(fmt.Sprintf("%q is an old copy: it was opened %d times, and now knows of %d; the next pass over each account compares it with its targets", s.path, used, use))
		if _, err := s.writer.exec("UPDATE account SET first_pass_done = 0"); err != nil {
			return 0, err
		}
	}
	use = max(use, used) + 1
	if _, err := s.writer.exec("UPDATE meta SET value = ? WHERE name = 'use'", use); err != nil {
		return 0, err
	}
	_, err = s.writer.exec("UPDATE meta SET value = 0 WHERE name = 'clean'")
	return use, err
}

// setJournal chooses WAL, in which readers and the writer do not block each
// other. It needs shared memory between processes, which a network file system
// has not: there two hosts would each believe their own.
func setJournal(c *conn, network bool) error {
	if !network {
		v, err := c.word("PRAGMA journal_mode = WAL")
		if err != nil && sqlCode(err) != sqlite3.SQLITE_IOERR && sqlCode(err) != sqlite3.SQLITE_CANTOPEN {
			return err
		}
		if v == "wal" {
			return nil
		}
	}
	v, err := c.word("PRAGMA journal_mode = TRUNCATE")
	if err == nil && v != "truncate" {
		err = fmt.Errorf("no safe journal mode: SQLite stays with %q", v)
	}
	return err
}

// probe looks at an existing database without changing it.
func probe(ctx context.Context, path string, always bool) error {
	c, err := openConn(path, "ro")
	if err == nil {
		err = inspect(ctx, c, path, always)
		_ = c.close()
	}
	if sqlCode(err) == sqlite3.SQLITE_READONLY {
		// A transaction was cut short in a rollback journal. Reading has to undo
		// it first, and only a writer can.
		if c, err = openConn(path, "rw"); err == nil {
			err = inspect(ctx, c, path, always)
			_ = c.close()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return classify(path, err)
}

// inspect checks whose database it is, of which version, and, after an unclean
// stop or if always is set, whether it is sound.
func inspect(ctx context.Context, c *conn, path string, always bool) error {
	version, err := identify(c, path)
	if err != nil || version == 0 {
		return err
	}
	clean, err := c.number("SELECT value FROM meta WHERE name = 'clean'")
	if err != nil || clean == 1 && !always {
		return err
	}
	return c.query(ctx, "PRAGMA quick_check(1)", nil, func(r row) error {
		if found := r.text(0); found != "ok" {
			return damaged(path, errors.New(found))
		}
		return nil
	})
}

// identify returns the version of our tables, 0 if there are none yet.
func identify(c *conn, path string) (version int64, err error) {
	var id, tables int64
	for sql, to := range map[string]*int64{
		"PRAGMA user_version": &version, "PRAGMA application_id": &id, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if *to, err = c.number(sql); err != nil {
			return 0, err
		}
	}
	switch {
	case id != applicationID && (id != 0 || tables != 0):
		return 0, &Error{
			Code: CodeForeign, Path: path, Text: fmt.Sprintf("%s is a database of another program", base(path)),
			Hint: "name another file as state",
		}
	case version > int64(len(schema)):
		return 0, &Error{
			Code: CodeNewer, Path: path,
			Text: fmt.Sprintf("%s was written by a newer popferry (format %d, this one knows up to %d)", base(path), version, len(schema)),
			Hint: "run that newer version",
		}
	}
	return version, nil
}

// room returns an Error if the disk is nearly full.
func (s *Store) room() error {
	free, err := s.free(filepath.Dir(s.path))
	if err != nil {
		free = reserve // it cannot tell: the write will
	}
	if free >= reserve {
		return nil
	}
	return &Error{
		Code: CodeFull, Path: s.path,
		Text: fmt.Sprintf("only %d KiB are free for %s, %d are needed to begin", free>>10, base(s.path), reserve>>10),
		Hint: "make room; nothing was lost, the mail stays in the maildrop",
	}
}

// View opens the state at path for reading, at any time and beside a running
// writer. Put returns ErrReadOnly. Where there was never a state the error is
// fs.ErrNotExist, every other one but ctx's an *Error.
func View(ctx context.Context, path string) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := openView(path)
	if errors.Is(err, fs.ErrNotExist) && wasUsed(path) {
		return nil, missing(path)
	}
	return s, err
}

func openView(path string) (*Store, error) {
	if fi, err := os.Stat(path); err != nil {
		return nil, classify(path, err)
	} else if fi.Size() == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	c, err := view(path, "ro")
	if code := sqlCode(err); (code == sqlite3.SQLITE_READONLY || code == sqlite3.SQLITE_CANTOPEN) && atRest(path) {
		// In WAL mode SQLite wants to make files beside the database, and may not.
		c, err = view(path, "immutable")
	}
	if err != nil {
		return nil, classify(path, err)
	}
	s := &Store{path: path, reader: c}
	clock, err := c.number("SELECT value FROM meta WHERE name = 'clock'")
	if err != nil {
		_ = c.close()
		return nil, classify(path, err)
	}
	s.clock.Store(clock)
	return s, nil
}

func view(path, mode string) (*conn, error) {
	c, err := openConn(path, mode)
	if err != nil {
		return nil, err
	}
	switch version, err := identify(c, path); {
	case err != nil:
		_ = c.close()
		return nil, err
	case version == 0:
		_ = c.close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case version < int64(len(schema)):
		_ = c.close()
		return nil, &Error{
			Code: CodeOlder, Path: path, Text: fmt.Sprintf("%s was written by an older popferry", base(path)),
			Hint: "run popferry once, so that it is brought up to date",
		}
	}
	return c, nil
}

// atRest reports whether nobody is writing the database and everything is in
// its one file.
func atRest(path string) bool {
	fi, err := os.Stat(path + "-wal")
	return (errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0) && lockFree(path)
}
