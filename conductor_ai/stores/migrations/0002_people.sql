-- What people do to a session. A call can be asked more than once, with edited arguments or because its effect has changed;
-- a person can answer in the tool's place; a grant approves calls to come. Sessions are paused, limited, and written to.

ALTER TABLE conductor.tool_calls
    DROP CONSTRAINT tool_calls_state_check,
    ADD CONSTRAINT tool_calls_state_check CHECK (state IN ('ready', 'waiting', 'executing', 'succeeded', 'failed', 'invalid',
                                                 'denied', 'answered', 'expired', 'abandoned', 'outcome_unknown')),
    ADD COLUMN round integer NOT NULL DEFAULT 1,           -- which time the call is asked
    ADD COLUMN notes jsonb   NOT NULL DEFAULT '[]';        -- sentences that the model is told before the result

ALTER TABLE conductor.approvals
    DROP CONSTRAINT approvals_status_check,
    ADD CONSTRAINT approvals_status_check CHECK (status IN ('pending', 'approved', 'denied', 'edited', 'answered', 'expired',
                                                 'cancelled', 'superseded')),
    ADD COLUMN round     integer NOT NULL DEFAULT 1,
    ADD COLUMN arguments jsonb,                            -- as they were shown; the call's own may be edited later
    ADD COLUMN on_expiry text NOT NULL DEFAULT 'expire' CHECK (on_expiry IN ('expire', 'deny', 'fail'));
UPDATE conductor.approvals a SET arguments = t.arguments FROM conductor.tool_calls t WHERE t.call_id = a.call_id;
ALTER TABLE conductor.approvals ALTER COLUMN arguments SET NOT NULL;
DROP INDEX conductor.approvals_current;
CREATE UNIQUE INDEX approvals_current ON conductor.approvals (call_id, round) WHERE status <> 'superseded';

ALTER TABLE conductor.decisions
    DROP CONSTRAINT decisions_decision_check,
    ADD CONSTRAINT decisions_decision_check CHECK (decision IN ('approve', 'deny', 'edit', 'answer')),
    ADD COLUMN round   integer NOT NULL DEFAULT 1,
    ADD COLUMN content_sha text NOT NULL DEFAULT '',
    ADD COLUMN payload jsonb;                              -- {arguments} of an edit, {answer}, {remember} of an approval
DROP INDEX conductor.decisions_counted;
CREATE UNIQUE INDEX decisions_counted ON conductor.decisions (call_id, round) WHERE counted;

-- "Yes, and the next ones like it too." Looked up where a person would be asked.
CREATE TABLE conductor.grants (
    id          text PRIMARY KEY,
    org_id      text NOT NULL,
    session_id  text REFERENCES conductor.sessions,        -- null: every session of the org
    tool        text NOT NULL,
    match       text NOT NULL CHECK (match IN ('exact', 'template')),
    free        text[] NOT NULL DEFAULT '{}',              -- arguments that may differ
    match_sha   text NOT NULL,                             -- digest of the tool and the arguments that may not
    arguments   jsonb NOT NULL,                            -- as they were approved, for people
    uses_left   integer CHECK (uses_left >= 0),            -- null: as many as come in time
    expires_at  timestamptz NOT NULL,
    granted_by  text NOT NULL,
    approval_id text NOT NULL REFERENCES conductor.approvals,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at  timestamptz,
    revoked_by  text
);
CREATE INDEX grants_of_tool ON conductor.grants (org_id, tool) WHERE revoked_at IS NULL;
CREATE INDEX grants_by_age ON conductor.grants (org_id, created_at DESC, id DESC);

-- Messages that follow the first ones. A message belongs to the conversation from the model call on that read it; until
-- then call_no is null. What came with the start was read by every call: 0.
ALTER TABLE conductor.messages
    ADD COLUMN message_id text,
    ADD COLUMN call_no    integer DEFAULT 0,
    ADD COLUMN by         text,
    ADD COLUMN at         timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE UNIQUE INDEX messages_by_id ON conductor.messages (session_id, message_id) WHERE message_id IS NOT NULL;

ALTER TABLE conductor.sessions
    ADD COLUMN mode             text NOT NULL DEFAULT 'run' CHECK (mode IN ('run', 'chat')),
    ADD COLUMN awaiting_input   boolean NOT NULL DEFAULT false,
    ADD COLUMN paused           jsonb,                     -- {kind, reason, by} while it stands still between two steps
    ADD COLUMN max_cost_usd     numeric,
    ADD COLUMN max_total_tokens bigint;
