-- Sessions and all that hangs on them. Every write to a session locks its row first (FOR NO KEY UPDATE), checks the
-- fence (run_id, not ended), changes rows, appends events at version+1 … and sets version to the last.

CREATE TABLE conductor.sessions (
    id                  text PRIMARY KEY,
    org_id              text NOT NULL,
    status              text NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    phase               text NOT NULL DEFAULT 'queued',
    start_state         text NOT NULL DEFAULT 'starting' CHECK (start_state IN ('starting', 'started', 'abandoned')),
    keyed               boolean NOT NULL DEFAULT false,  -- the caller sent an Idempotency-Key: safe to start again for them
    run_id              text,                            -- the workflow run that may write; see the fence
    version             bigint NOT NULL DEFAULT 0,
    clock               bigint NOT NULL DEFAULT 0,
    input               jsonb NOT NULL,                  -- the workflow's input, to start it (again)
    model               text NOT NULL,
    title               text,
    system_prompt       text NOT NULL DEFAULT '',
    tools               text[] NOT NULL,
    max_steps           integer NOT NULL,
    metadata            jsonb NOT NULL DEFAULT '{}',
    warnings            jsonb NOT NULL DEFAULT '[]',
    deadline_at         timestamptz,
    cancel_requested_at timestamptz,
    cancel_reason       text,
    stop_reason         text,
    final_answer        text,
    error               jsonb,
    retry               jsonb,                           -- {attempt, next_at, reason} while an activity waits to try again
    last_call_no        integer NOT NULL DEFAULT 0,      -- the newest model call that has an answer
    steps               integer NOT NULL DEFAULT 0,
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    cache_read_tokens   bigint NOT NULL DEFAULT 0,
    cache_write_tokens  bigint NOT NULL DEFAULT 0,
    cost_usd            numeric NOT NULL DEFAULT 0,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at          timestamptz,
    ended_at            timestamptz,
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    reconciled_at       timestamptz,
    UNIQUE (org_id, id),
    CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled')))
);
CREATE INDEX sessions_by_age ON conductor.sessions (org_id, created_at DESC, id DESC);
CREATE INDEX sessions_open ON conductor.sessions (updated_at) WHERE ended_at IS NULL;

-- What people said. What the model said is in model_calls, what tools said in tool_calls; the transcript is read from all three.
CREATE TABLE conductor.messages (
    session_id  text NOT NULL REFERENCES conductor.sessions,
    part        integer NOT NULL,
    role        text NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    body        text NOT NULL,
    PRIMARY KEY (session_id, part)
);

CREATE TABLE conductor.model_calls (
    session_id  text NOT NULL REFERENCES conductor.sessions,
    call_no     integer NOT NULL,
    generation  integer NOT NULL,
    step        integer NOT NULL,
    model       text NOT NULL,
    input_sha   text NOT NULL,
    counts      boolean NOT NULL,        -- false for replies that had to be asked for again: no step of their own
    answer      jsonb NOT NULL,          -- a ModelReply, as the provider gave it
    attempts    integer NOT NULL,
    latency_ms  integer NOT NULL,
    superseded  boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, call_no, generation)
);
CREATE UNIQUE INDEX model_calls_current ON conductor.model_calls (session_id, call_no) WHERE NOT superseded;

-- One row for each attempt that was, or may have been, billed. Never fenced: it was paid.
CREATE TABLE conductor.model_attempts (
    session_id  text NOT NULL REFERENCES conductor.sessions,
    call_no     integer NOT NULL,
    run_id      text NOT NULL,
    attempt     integer NOT NULL,
    step        integer NOT NULL,
    model       text NOT NULL,
    outcome     text NOT NULL,
    input_tokens        bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    cache_read_tokens   bigint NOT NULL,
    cache_write_tokens  bigint NOT NULL,
    cost_usd    numeric NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, call_no, run_id, attempt)
);

CREATE TABLE conductor.tool_calls (
    call_id     text PRIMARY KEY,
    session_id  text NOT NULL REFERENCES conductor.sessions,
    call_no     integer NOT NULL,
    generation  integer NOT NULL,        -- of the model call that made it
    idx         integer NOT NULL,
    provider_id text NOT NULL,
    tool        text NOT NULL,
    arguments   jsonb NOT NULL,          -- validated, defaults filled in; as the model wrote them if invalid
    args_sha    text NOT NULL,
    facts       jsonb NOT NULL,
    state       text NOT NULL CHECK (state IN ('ready', 'waiting', 'executing', 'succeeded', 'failed', 'invalid', 'denied',
                                               'expired', 'abandoned', 'outcome_unknown')),
    replayable  boolean NOT NULL,
    run_id      text,
    attempt     integer,
    result      jsonb,                   -- a ToolResult, whole
    superseded  boolean NOT NULL DEFAULT false,
    started_at  timestamptz,
    finished_at timestamptz
);
CREATE INDEX tool_calls_of_session ON conductor.tool_calls (session_id, call_no, idx);
CREATE INDEX tool_calls_unknown ON conductor.tool_calls (finished_at) WHERE state = 'outcome_unknown';

CREATE TABLE conductor.approvals (
    id           text PRIMARY KEY,
    call_id      text NOT NULL REFERENCES conductor.tool_calls,
    session_id   text NOT NULL REFERENCES conductor.sessions,
    org_id       text NOT NULL,
    args_sha     text NOT NULL,
    status       text NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'approved', 'denied', 'expired', 'cancelled', 'superseded')),
    consequence  jsonb NOT NULL,
    rule         text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    closed_at    timestamptz
);
CREATE UNIQUE INDEX approvals_current ON conductor.approvals (call_id) WHERE status <> 'superseded';
CREATE INDEX approvals_inbox ON conductor.approvals (org_id, status, requested_at DESC, id DESC);
CREATE INDEX approvals_pending ON conductor.approvals (session_id) WHERE status = 'pending';

-- Who decided what. An intention is written before a signal is sent, because a signal cannot prove who sent it.
CREATE TABLE conductor.decisions (
    call_id      text NOT NULL REFERENCES conductor.tool_calls,
    decision_id  text NOT NULL,
    args_sha     text NOT NULL,
    decision     text NOT NULL CHECK (decision IN ('approve', 'deny')),
    by           text NOT NULL,
    verified     boolean NOT NULL,
    via          text NOT NULL,
    comment      text,
    counted      boolean NOT NULL DEFAULT false,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (call_id, decision_id)
);
CREATE UNIQUE INDEX decisions_counted ON conductor.decisions (call_id) WHERE counted;

CREATE TABLE conductor.events (
    session_id  text NOT NULL REFERENCES conductor.sessions,
    seq         bigint NOT NULL,
    type        text NOT NULL,
    dedupe      text,
    body        jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, seq),
    UNIQUE (session_id, dedupe)
);

CREATE TABLE conductor.idempotency (
    org_id      text NOT NULL,
    route       text NOT NULL,
    key         text NOT NULL,
    body_sha    text NOT NULL,
    session_id  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (org_id, route, key)
);
CREATE INDEX idempotency_by_age ON conductor.idempotency (created_at);

CREATE TABLE conductor.api_keys (
    id          text PRIMARY KEY,
    org_id      text NOT NULL,
    name        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'approver', 'admin')),
    sha256      text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at  timestamptz
);

-- What the workers really have, as they say it when they start.
CREATE TABLE conductor.tools (
    name         text PRIMARY KEY,
    queue        text NOT NULL,
    spec         jsonb NOT NULL,
    available    boolean NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
