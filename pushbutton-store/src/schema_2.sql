-- The history beside the runs: control messages, deliveries of reports, and participants; the newest entry of each key.
CREATE TABLE history (
    kind  TEXT    NOT NULL CHECK (kind IN ('control', 'delivery', 'participant')),
    key   TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    entry TEXT    NOT NULL,                        -- JSON
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_at ON history (kind, at);

-- How far the histories of others have been read.
CREATE TABLE history_feeds (
    feed     TEXT PRIMARY KEY,
    position TEXT NOT NULL
) STRICT, WITHOUT ROWID;
