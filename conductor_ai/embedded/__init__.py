"""The one-command stack: Postgres, Temporal's dev server, Redis and a demo page as children that die with their parent."""
