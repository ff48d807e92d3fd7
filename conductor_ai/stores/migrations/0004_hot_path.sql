-- What every step does costs the same in the first step and in the five-thousandth.

-- Whether a reset left answers behind is asked before each model call; without this all answers were looked through.
CREATE INDEX model_calls_left_behind ON conductor.model_calls (session_id, input_sha) WHERE superseded;
