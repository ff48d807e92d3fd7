#!/usr/bin/env bash
# A Docker engine for tests: a data root and a unix socket of its own, no bridge and no firewall rules. Needs root.
#
#     infra/ci/engine.sh start DIR     start it (or find it running), wait until it answers, print DOCKER_HOST
#     infra/ci/engine.sh stop DIR      stop it, by the pid that `start` wrote; fine if it does not run
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 start|stop DIR" >&2
    exit 2
fi
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
socket="$dir/docker.sock"
host="unix://$socket"

alive() { # PID: it runs, and is still a dockerd: a pid is given to another process some day
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

running() { # by the pid that dockerd itself wrote
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) && alive "$pid"
}

answers() { DOCKER_HOST="$host" timeout 5 docker version >/dev/null 2>&1; }

start() {
    if ! running; then
        rm -f "$dir/pid" "$socket"
        setsid dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --host "$host" \
            --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
            >"$dir/log" 2>&1 </dev/null &
    fi
    for _ in $(seq 150); do
        if answers; then
            echo "DOCKER_HOST=$host"
            return
        fi
        sleep 0.2
    done
    tail -n 20 "$dir/log" >&2
    echo "The Docker engine did not answer within 30 s; its last words are above." >&2
    return 1
}

stop() {
    running || return 0
    local pid
    pid=$(cat "$dir/pid")
    kill "$pid"
    for _ in $(seq 100); do
        alive "$pid" || return 0
        sleep 0.2
    done
    kill -KILL "$pid"
}

case $action in
start) start ;;
stop) stop ;;
*)
    echo "usage: $0 start|stop DIR" >&2
    exit 2
    ;;
esac
