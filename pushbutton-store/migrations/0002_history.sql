-- Plain columns for people with the sqlite3 shell; `job`, `verdict_json` and `outcome` hold the whole, as JSON.
CREATE TABLE runs (
    run          TEXT    PRIMARY KEY,
    job_id       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    project      TEXT    NOT NULL,
    target       TEXT    NOT NULL,                 -- change,patchset
    job          TEXT    NOT NULL,
    attempt      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    node         TEXT,
    verdict      TEXT,                             -- as in Gerrit's result line
    verdict_json TEXT,
    reason       TEXT,
    log_url      TEXT,
    passed       INTEGER,
    failed       INTEGER,
    skipped      INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_started ON runs (started_at);
CREATE INDEX runs_open    ON runs (job_id) WHERE ended_at IS NULL;
CREATE INDEX runs_verdict ON runs (verdict, ended_at) WHERE verdict IS NOT NULL;

CREATE TABLE stages (
    run        TEXT    NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    stage      TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    outcome    TEXT,                               -- JSON; none while it runs
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
