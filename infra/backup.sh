#!/usr/bin/env bash
# Backs up Conductor's database, and Temporal's if it is in Postgres too.
#
#     infra/backup.sh FOLDER
#
# DATABASE_URL (or SUPABASE_DB_URL) names Conductor's database. TEMPORAL_DATABASE_URL and TEMPORAL_VISIBILITY_DATABASE_URL, if
# set, name Temporal's. PGBIN names a folder with pg_dump; else PATH counts. Sessions go on meanwhile.
#
# Temporal's database is dumped first: a session that begins in between is then in Conductor's dump alone, and the reconciler ends
# it or starts it again. The other way round a workflow would stay that no row knows.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/postgres-url.sh"

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
own=${SUPABASE_DB_URL:-${DATABASE_URL:?names no database: set it to the connection string of Conductor\'s Postgres}}
dump="${PGBIN:+$PGBIN/}pg_dump"
umask 077 # it holds everything that anybody said
target="$1/conductor-$(date -u +%Y%m%dT%H%M%SZ)"
partial="$target.partial"
mkdir -p "$partial"

save() { # NAME URL OPTIONS…
    local name=$1
    without_password "$2"
    shift 2
    "$dump" --format=custom --no-owner --no-privileges "$@" --file="$partial/$name.dump" "$address"
}

if [ -n "${TEMPORAL_DATABASE_URL:-}" ]; then
    save temporal "$TEMPORAL_DATABASE_URL"
    [ -z "${TEMPORAL_VISIBILITY_DATABASE_URL:-}" ] || save temporal_visibility "$TEMPORAL_VISIBILITY_DATABASE_URL"
fi
save conductor "$own" --schema=conductor
(cd "$partial" && sha256sum ./*.dump >SHA256SUMS)
mv "$partial" "$target" # a folder without .partial is whole
echo "$target"
