#!/bin/sh
# Makes what docker-compose.yml needs and nobody should invent: passwords, as files, and the group of Docker's socket.
#
#     sh infra/docker/prepare.sh [FOLDER]      default: secrets/ and .env beside docker-compose.yml
#
# A file that is there is left as it is: running it again changes nothing, and a password is changed by hand.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-secrets}
mkdir -p "$folder"
# Nobody but the owner gets into the folder. The files in it are readable, because Compose mounts them as they are into
# containers that run as other users.
chmod 700 "$folder"

keep() { # NAME TEXT
    if [ ! -e "$folder/$1" ]; then
        printf %s "$2" >"$folder/$1.new"
        chmod 444 "$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
        echo "made $folder/$1"
    fi
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; } # hexadecimal: it becomes part of URLs

for name in postgres_password conductor_db_password temporal_db_password redis_password grafana_password; do
    keep "$name" "$(random)"
done
keep DATABASE_URL "postgresql://conductor:$(cat "$folder/conductor_db_password")@postgres:5432/conductor"
keep REDIS_URL "redis://:$(cat "$folder/redis_password")@redis:6379/0"
# Empty means not set. Fill in the keys that you have.
for name in ANTHROPIC_API_KEY OPENROUTER_API_KEY CONDUCTOR_OPENAI_API_KEY CONDUCTOR_SQL_URL; do
    keep "$name" ""
done

if [ $# -eq 0 ] && [ -S /var/run/docker.sock ] && ! grep -qs '^DOCKER_GID=' .env; then
    echo "DOCKER_GID=$(stat -c %g /var/run/docker.sock)" >>.env
    echo "added DOCKER_GID to .env"
fi
