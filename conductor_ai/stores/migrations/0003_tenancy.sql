-- What is left of what was deleted: that it was there, whose it was, what it cost, who deleted it and when. Never its content.
CREATE TABLE conductor.audit (
    id      text PRIMARY KEY,
    org_id  text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,       -- the id of what it was done to
    by      text NOT NULL,
    details jsonb NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX audit_deleted ON conductor.audit (subject) WHERE action = 'session.deleted';
CREATE INDEX audit_by_age ON conductor.audit (org_id, at DESC, id DESC);

-- How many sessions of an organisation are open is counted in each start, where that is limited.
CREATE INDEX sessions_open_of_org ON conductor.sessions (org_id) WHERE ended_at IS NULL;

CREATE INDEX api_keys_of_org ON conductor.api_keys (org_id, created_at DESC, id DESC);
