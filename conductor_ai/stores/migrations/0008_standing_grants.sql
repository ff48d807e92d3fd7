-- A grant for the whole organisation is the organisation's own: it outlives the session in which it was given.
ALTER TABLE conductor.grants ALTER COLUMN approval_id DROP NOT NULL;
