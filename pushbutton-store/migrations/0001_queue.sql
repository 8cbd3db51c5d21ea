-- Times are milliseconds since 1970, UTC.

-- A job keeps its place from publish to end; only a retry sends it to the back.
CREATE TABLE jobs (
    place           INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    state           TEXT    NOT NULL CHECK (state IN ('ready', 'delayed', 'leased', 'done', 'dead')),
    job             TEXT,                          -- JSON; none once done
    failed_attempts INTEGER NOT NULL DEFAULT 0,
    due_at          INTEGER,                       -- delayed: when it is ready; leased: when the lease ends
    epoch           INTEGER NOT NULL DEFAULT 0,    -- counts claims; a holder of an older one has lost its lease
    why             TEXT,                          -- of the last retry or of the rejection
    ended_at        INTEGER                        -- done and dead
) STRICT;
CREATE INDEX jobs_ready ON jobs (state, place) WHERE state = 'ready';
CREATE INDEX jobs_due   ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (state, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    notice TEXT    NOT NULL,                       -- JSON
    at     INTEGER NOT NULL
) STRICT;
CREATE INDEX notices_at ON notices (at);

CREATE TABLE seen (
    event TEXT    PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_at ON seen (at);

-- One row at most.
CREATE TABLE position (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    position TEXT    NOT NULL                      -- JSON
) STRICT;

CREATE TABLE resources (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    run   TEXT    NOT NULL,
    kind  TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    id    TEXT,
    at    INTEGER NOT NULL
) STRICT;
