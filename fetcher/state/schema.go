package state

import "fmt"

// applicationID marks the file as ours ("popf"), so that another program's
// database named by mistake is left alone.
const applicationID = 0x706f7066

// schema lists the steps from an empty file to today's tables. user_version
// counts the steps done. A released step never changes; new ones are appended.
//
// Times are milliseconds since 1970, 0 for none. The columns that a pass reads
// of every message come first: SQLite decodes a row from its beginning.
var schema = []string{`
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value ANY
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
	id              INTEGER PRIMARY KEY,
	source          TEXT NOT NULL UNIQUE,
	name            TEXT NOT NULL,
	first_pass_done INTEGER NOT NULL DEFAULT 0,
	list_hash       BLOB NOT NULL DEFAULT x'',
	list_count      INTEGER NOT NULL DEFAULT 0,
	last_pass       INTEGER NOT NULL DEFAULT 0,
	last_success    INTEGER NOT NULL DEFAULT 0,
	exact           INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE message (
	id           INTEGER PRIMARY KEY,
	account      INTEGER NOT NULL,
	uidl         BLOB NOT NULL CHECK (length(uidl) BETWEEN 1 AND 512),
	gen          INTEGER NOT NULL,
	size         INTEGER NOT NULL,
	first_seen   INTEGER NOT NULL,
	fetches      INTEGER NOT NULL DEFAULT 0,
	holds        INTEGER NOT NULL DEFAULT 0,
	status       INTEGER NOT NULL DEFAULT 0,
	note         TEXT NOT NULL DEFAULT '',
	next_try     INTEGER NOT NULL DEFAULT 0,
	absent_since INTEGER NOT NULL DEFAULT 0,
	delsent_at   INTEGER NOT NULL DEFAULT 0,
	gone_at      INTEGER NOT NULL DEFAULT 0,
	suspect      INTEGER NOT NULL DEFAULT 0,
	hash         BLOB,
	canon_size   INTEGER,
	stable       BLOB,
	body         BLOB,
	msgid        TEXT,
	octets       INTEGER
) STRICT;

-- Tombstones are left out: a server may give a UIDL again.
CREATE UNIQUE INDEX message_key ON message (account, uidl, gen) WHERE gone_at = 0;
-- In order of id, as the rows lie in the table: reading an account by its UIDLs
-- would jump about in it.
CREATE INDEX message_account ON message (account) WHERE gone_at = 0;
-- Only rows whose UIDL may have changed: an index over every hash would dirty
-- one random page for each message.
CREATE INDEX message_left ON message (hash) WHERE absent_since > 0 OR gone_at > 0;
CREATE INDEX message_gone ON message (gone_at) WHERE gone_at > 0;

CREATE TABLE delivery (
	message     INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	target      TEXT NOT NULL,
	folder      TEXT NOT NULL,
	rcpt        TEXT NOT NULL,
	flags       TEXT NOT NULL,
	rule        TEXT NOT NULL,
	status      INTEGER NOT NULL DEFAULT 0,
	attempts    INTEGER NOT NULL DEFAULT 0,
	box         TEXT NOT NULL DEFAULT '',
	uidvalidity INTEGER NOT NULL DEFAULT 0,
	uidnext     INTEGER NOT NULL DEFAULT 0,
	uid         INTEGER NOT NULL DEFAULT 0,
	existed     INTEGER NOT NULL DEFAULT 0,
	class       TEXT NOT NULL DEFAULT '',
	reply       TEXT NOT NULL DEFAULT '',
	next_try    INTEGER NOT NULL DEFAULT 0,
	at          INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

-- The deliveries under way, and where the delivered ones are.
CREATE INDEX delivery_uncertain ON delivery (message) WHERE status IN (1, 2);
CREATE INDEX delivery_uid ON delivery (target, box, uidvalidity, uid) WHERE uid > 0;
`, `
-- Milliseconds to stay on the maildrop, negative for ever; NULL: as the account says.
ALTER TABLE message ADD COLUMN keep_for INTEGER;
`, `
-- While the listing is the one of list_hash, nothing is to be done before this.
ALTER TABLE account ADD COLUMN quiet_until INTEGER NOT NULL DEFAULT 0;
`, `
-- How passes ended. Those in which nothing happened are counted apart: there are
-- many more of them, and they are worth less. n counts an account's passes.
CREATE TABLE pass (
	account   TEXT NOT NULL,
	quiet     INTEGER NOT NULL,
	n         INTEGER NOT NULL,
	job       TEXT NOT NULL,
	pass      TEXT NOT NULL,
	start     INTEGER NOT NULL,
	took      INTEGER NOT NULL,
	exit      INTEGER NOT NULL,
	messages  INTEGER, -- on the maildrop; NULL if it was not listed
	octets    INTEGER,
	new       INTEGER NOT NULL,
	delivered INTEGER NOT NULL,
	duplicate INTEGER NOT NULL,
	dropped   INTEGER NOT NULL,
	failed    INTEGER NOT NULL,
	held      INTEGER NOT NULL,
	deleted   INTEGER NOT NULL,
	bytes     INTEGER NOT NULL,
	code      TEXT NOT NULL,
	head      TEXT NOT NULL,
	lines     TEXT NOT NULL,
	PRIMARY KEY (account, quiet, n)
) STRICT, WITHOUT ROWID;
`, `
-- Logins that were refused and not accepted since, at maildrops and targets.
-- tag is sixteen bits of a slow hash of the secret.
CREATE TABLE refused (
	login TEXT PRIMARY KEY,
	count INTEGER NOT NULL,
	last  INTEGER NOT NULL,
	salt  BLOB NOT NULL,
	tag   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
`}

// migrate brings the tables to today's version, one transaction a step.
func migrate(c *conn) error {
	have, err := c.number("PRAGMA user_version")
	if err != nil {
		return err
	}
	for i := int(have); i < len(schema); i++ {
		sql := fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			schema[i], applicationID, i+1)
		if err := c.script(sql); err != nil {
			_ = c.script("ROLLBACK")
			return fmt.Errorf("schema step %d: %w", i+1, err)
		}
	}
	return nil
}
