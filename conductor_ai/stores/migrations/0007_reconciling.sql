-- The reconciler of every worker asks each minute for the open sessions that it has not looked at for longest.
CREATE INDEX sessions_reconcile ON conductor.sessions (reconciled_at NULLS FIRST, updated_at) WHERE ended_at IS NULL;
