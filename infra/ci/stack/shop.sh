#!/bin/sh
# A database for sql_query to work on, beside Conductor's own: one row to change.
set -eu
psql --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE shop_login LOGIN PASSWORD 'not-a-secret';
CREATE ROLE shop_agent NOLOGIN;
GRANT shop_agent TO shop_login;
CREATE DATABASE shop;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE shop TO shop_login;
\connect shop
CREATE SCHEMA conductor_ledger AUTHORIZATION shop_login;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO shop_agent;
CREATE TABLE products (sku text PRIMARY KEY, stock integer NOT NULL);
INSERT INTO products VALUES ('COF-004', 10);
GRANT SELECT, UPDATE ON products TO shop_agent;
SQL
