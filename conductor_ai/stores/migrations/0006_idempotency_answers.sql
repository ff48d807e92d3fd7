-- Every POST and PATCH may carry an Idempotency-Key, not only a start. A start keeps its session's id and is answered from
-- the session's row; any other request keeps its answer. While it is carried out the row is leased to whoever does so: a
-- process that dies holds nobody up for longer than that.

ALTER TABLE conductor.idempotency
    ALTER COLUMN session_id DROP NOT NULL,
    ADD COLUMN token        text,         -- the request's own id through all its attempts: what it makes can be named after it
    ADD COLUMN holder       text,         -- the attempt that carries it out
    ADD COLUMN leased_until timestamptz,
    ADD COLUMN status       integer,      -- of the answer; null until there is one
    ADD COLUMN headers      jsonb,
    ADD COLUMN body         bytea;        -- without what is shown only once
