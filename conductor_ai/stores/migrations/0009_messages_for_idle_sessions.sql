-- A message that its sender wants refused if the session is at work. Until the workflow has said that it takes it, nobody
-- may read it along with another one: whoever stored it may have died, or may be about to refuse it.
ALTER TABLE conductor.messages
    ADD COLUMN only_if_idle boolean NOT NULL DEFAULT false;
