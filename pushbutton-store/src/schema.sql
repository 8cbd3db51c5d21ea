-- Times are milliseconds since 1970, UTC. Ids and names of enums are plain text; whole values are JSON.

-- The queue. A job keeps its number in the order (`seq`) from publish to end; a retry or a requeue moves it to the back.
CREATE TABLE jobs (
    seq             INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    state           TEXT    NOT NULL CHECK (state IN ('ready', 'delayed', 'leased', 'done', 'dead')),
    name            TEXT    NOT NULL,
    label           TEXT,                          -- of the node that the job needs
    change          INTEGER,                       -- its number
    job             TEXT,                          -- JSON; NULL once done
    failed_attempts INTEGER NOT NULL DEFAULT 0,
    due_at          INTEGER,                       -- delayed: when it is ready
    epoch           INTEGER NOT NULL DEFAULT 0,    -- fencing token: counts claims; an older holder has lost its lease
    run             TEXT,                          -- the run that the lease is for
    boot            TEXT,                          -- leased: the boot of the machine that the next is counted from
    lease_ends      INTEGER,                       -- leased: milliseconds since that boot
    lost_leases     INTEGER NOT NULL DEFAULT 0,    -- leases that ran out since the last failed attempt
    why             TEXT,                          -- of the last retry or of the rejection
    ended_at        INTEGER                        -- done and dead
) STRICT;
-- Name and label are in the index so that a claim skips jobs it cannot run without reading their rows.
CREATE INDEX jobs_ready ON jobs (state, seq, name, label) WHERE state = 'ready';
-- Finds the waiting job that absorbs a new one.
CREATE INDEX jobs_change ON jobs (change, name) WHERE state IN ('ready', 'delayed');
CREATE INDEX jobs_leased ON jobs (state) WHERE state = 'leased';
CREATE INDEX jobs_due   ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (state, ended_at) WHERE ended_at IS NOT NULL;

-- Buildsets of which a job has ended, and another one has not.
CREATE TABLE buildsets (
    id   TEXT PRIMARY KEY,
    open TEXT NOT NULL                             -- JSON
) STRICT, WITHOUT ROWID;

-- The outbox: reports of complete buildsets, until they are delivered or dropped. Times of leases as in `jobs`.
CREATE TABLE reports (
    seq             INTEGER PRIMARY KEY,           -- the order in which they were due
    id              TEXT    NOT NULL UNIQUE,       -- of the buildset
    state           TEXT    NOT NULL CHECK (state IN ('due', 'leased', 'undelivered')),
    report          TEXT    NOT NULL,              -- JSON
    delivered       TEXT    NOT NULL DEFAULT '[]', -- JSON: names of the reporters that have it
    failed_attempts INTEGER NOT NULL DEFAULT 0,
    due_at          INTEGER NOT NULL DEFAULT 0,    -- due: not before this
    epoch           INTEGER NOT NULL DEFAULT 0,    -- counts deliveries
    boot            TEXT,
    lease_ends      INTEGER,
    why             TEXT,                          -- undelivered: why it was refused
    ended_at        INTEGER                        -- undelivered: when
) STRICT;
-- In the order in which they were due, so that the first one is found without sorting all.
CREATE INDEX reports_open ON reports (seq, state, due_at, boot, lease_ends) WHERE state <> 'undelivered';

CREATE TABLE control_messages (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    message TEXT    NOT NULL,                      -- JSON
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX control_messages_at ON control_messages (at);

CREATE TABLE seen_events (
    event TEXT    PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_events_at ON seen_events (at);

-- How far the event source has come. One row at most.
CREATE TABLE position (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    position TEXT    NOT NULL                      -- JSON
) STRICT;

-- Whose machines: the id in the ownership tags of cloud resources. One row at most.
CREATE TABLE installation (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id   TEXT    NOT NULL
) STRICT;

-- The journal of cloud resources that exist or may exist.
CREATE TABLE resources (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    run   TEXT    NOT NULL,
    kind  TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    id    TEXT,                                    -- NULL until the cloud has named it
    at    INTEGER NOT NULL
) STRICT;

-- The run history. `record` is the whole run with its stages; the virtual columns are for people with the sqlite3 shell.
CREATE TABLE runs (
    run        TEXT    PRIMARY KEY,
    job_id     TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    verdict    TEXT,                               -- as in Gerrit's result line
    record     TEXT    NOT NULL,                   -- JSON
    name       TEXT    AS (record ->> '$.job.name'),
    project    TEXT    AS (record ->> '$.job.change.project'),
    change     INTEGER AS (record ->> '$.job.change.number'),
    state      TEXT    AS (record ->> '$.state'),
    reason     TEXT    AS (record ->> '$.reason')
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_started ON runs (started_at);
CREATE INDEX runs_open    ON runs (job_id) WHERE ended_at IS NULL;
CREATE INDEX runs_verdict ON runs (verdict, ended_at) WHERE verdict IS NOT NULL;
