-- The run that a lease is for; none while the job is not leased.
ALTER TABLE jobs ADD COLUMN run TEXT;
