#!/bin/sh
# Run once by the Postgres image, when its volume is empty: a login for Conductor and one for Temporal, each the owner
# of its own databases and of nothing else. The passwords come from files and are on no command line.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set conductor `cat /run/secrets/conductor_db_password`
\set temporal `cat /run/secrets/temporal_db_password`
CREATE ROLE conductor LOGIN PASSWORD :'conductor';
CREATE ROLE temporal LOGIN PASSWORD :'temporal';
CREATE DATABASE conductor OWNER conductor;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
REVOKE ALL ON DATABASE conductor, temporal, temporal_visibility FROM PUBLIC;
SQL
