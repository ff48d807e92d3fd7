-- What the answer of a session must look like, and its value once it fits.

ALTER TABLE conductor.sessions
    ADD COLUMN output_schema jsonb,    -- JSON Schema (draft 2020-12); null: the answer is text
    ADD COLUMN output        jsonb;

-- What a model call was for. A summary stands for everything that was said before it; what it replaces stays in its rows.
ALTER TABLE conductor.model_calls
    ADD COLUMN purpose text NOT NULL DEFAULT 'answer' CHECK (purpose IN ('answer', 'summary', 'no_summary'));
