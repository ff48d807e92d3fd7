-- What the answer of a session must look like, and its value once it fits.

ALTER TABLE conductor.sessions
    ADD COLUMN output_schema jsonb,    -- JSON Schema (draft 2020-12); null: the answer is text
    ADD COLUMN output        jsonb;
