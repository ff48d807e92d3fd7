-- Ended sessions by age, for those who let them be deleted after a time.
CREATE INDEX sessions_by_end ON conductor.sessions (ended_at) WHERE ended_at IS NOT NULL;
