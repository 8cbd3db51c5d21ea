-- When a buildset has changed last: one that no job can complete any more is reported as it is after a day. Those of older
-- files wait from now on.
ALTER TABLE buildsets ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE buildsets SET at = unixepoch() * 1000;
CREATE INDEX buildsets_at ON buildsets (at);

-- Finds the runs of a job. Not of the virtual column `name`: a record that is not JSON would fail each statement that changes
-- the index, also the one that deletes it.
CREATE INDEX runs_name ON runs (CASE WHEN json_valid(record) THEN record ->> '$.job.name' END, started_at)
    WHERE verdict IS NOT NULL;
