#!/usr/bin/env bash
# Restores what infra/backup.sh saved, each database in one transaction: all of it or nothing.
#
#     infra/restore.sh FOLDER [--replace]
#
# Stop API and workers first, and Temporal if its database is restored. The variables are those of backup.sh. A database that has
# something already is left alone, unless --replace is given: then what is there is dropped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/postgres-url.sh"

if [ $# -lt 1 ] || { [ $# -ge 2 ] && [ "$2" != --replace ]; }; then
    echo "usage: $0 FOLDER [--replace]" >&2
    exit 2
fi
folder=$1 replace=${2:-}
own=${SUPABASE_DB_URL:-${DATABASE_URL:?names no database: set it to the connection string of Conductor\'s Postgres}}
psql="${PGBIN:+$PGBIN/}psql" restore="${PGBIN:+$PGBIN/}pg_restore"
(cd "$folder" && sha256sum --quiet --check SHA256SUMS) || { echo "$folder is not whole, or was changed." >&2; exit 1; }

ask() { "$psql" --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 --command "$2" "$1"; }

bring_back() { # NAME URL SCHEMA
    local name=$1 schema=$3 tables
    [ -f "$folder/$name.dump" ] || return 0
    without_password "$2"
    tables=$(ask "$address" "SELECT count(*) FROM pg_tables WHERE schemaname = '$schema'")
    if [ "$tables" -gt 0 ] && [ -z "$replace" ]; then
        echo "The database for $name has $tables tables already. Restore into an empty one, or say --replace." >&2
        return 1
    fi
    "$restore" --single-transaction --exit-on-error --no-owner --no-privileges ${replace:+--clean --if-exists} \
        --dbname="$address" "$folder/$name.dump"
    echo "restored $name"
}

[ -z "${TEMPORAL_DATABASE_URL:-}" ] || bring_back temporal "$TEMPORAL_DATABASE_URL" public
[ -z "${TEMPORAL_VISIBILITY_DATABASE_URL:-}" ] || bring_back temporal_visibility "$TEMPORAL_VISIBILITY_DATABASE_URL" public
bring_back conductor "$own" conductor
echo "Run \`conductor migrate\`, then start Temporal, the workers and the API."
