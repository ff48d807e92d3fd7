#!/bin/sh
# Prints random passwords for docker-compose.yml, in the form of a .env file: sh infra/docker/passwords.sh >> .env
# Hexadecimal, because they become part of URLs.
set -eu
for name in POSTGRES_PASSWORD CONDUCTOR_DB_PASSWORD TEMPORAL_DB_PASSWORD REDIS_PASSWORD; do
    echo "$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done
