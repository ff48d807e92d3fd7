-- A step changes its session's row some times. Where no index has a column that changes, and the page has room, Postgres writes the new
-- row beside the old one and leaves all indexes as they are (HOT); before, each change wrote an entry into every index of the table.
DROP INDEX conductor.sessions_open;
DROP INDEX conductor.sessions_reconcile;
CREATE INDEX sessions_reconcile ON conductor.sessions (reconciled_at NULLS FIRST, created_at) WHERE ended_at IS NULL;
ALTER TABLE conductor.sessions SET (fillfactor = 70);
