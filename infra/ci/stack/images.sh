#!/usr/bin/env bash
# Makes every image of the Compose stack without a registry and without a network inside of a build: Conductor's own, from
# wheels that were downloaded before, and stand-ins for the servers.
#
#     infra/ci/stack/images.sh CACHE [TAG]        after infra/ci/images.sh CACHE …, which makes conductor-base-python3
#
# DOCKER_HOST says which engine. CACHE keeps root file systems and wheels. TAG: conductor:local.
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: $0 CACHE [TAG]" >&2
    exit 2
fi
tag=${2:-conductor:local} suite=bookworm
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
mkdir -p "$1"
cache=$(cd "$1" && pwd)
bin="$root/.venv/bin"
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The classic builder: BuildKit is not part of every engine, and nothing here needs it.
export DOCKER_BUILDKIT=0
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; return 1; }; }

servers="$cache/$suite-servers.tar"
if [ ! -s "$servers" ]; then
    echo "making a root file system with Postgres and Redis"
    quietly debootstrap --variant=minbase --include=python3,python3-venv,postgresql,redis-server "$suite" "$work/root"
    rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
    tar -C "$work/root" --exclude=./dev --exclude=./proc --exclude=./sys -cf "$work/tarball" .
    mv "$work/tarball" "$servers"
    rm -rf "$work/root"
fi
docker image inspect "conductor-base-servers:$suite" >/dev/null 2>&1 ||
    docker import "$servers" "conductor-base-servers:$suite" >/dev/null
# The same root file system that the sandbox image for Python begins with: small, with an interpreter and nothing else.
docker image inspect "conductor-base-python3:$suite" >/dev/null 2>&1 ||
    docker import "$cache/$suite-python3.tar" "conductor-base-python3:$suite" >/dev/null

for target in postgres redis; do
    quietly docker build --network none --build-arg "BASE=conductor-base-servers:$suite" --target "$target" \
        --tag "conductor-ci-$target:local" "$here"
done
mkdir "$work/temporal"
cp "$here/temporal.Dockerfile" "$work/temporal/Dockerfile"
cp "$bin/temporal" "$work/temporal/temporal"
quietly docker build --network none --build-arg "BASE=conductor-base-python3:$suite" --tag conductor-ci-temporal:local \
    "$work/temporal"

wheels="$cache/wheels-$(sha256sum <"$root/requirements.txt" | cut -c1-16)"
if [ ! -d "$wheels" ]; then
    echo "downloading the wheels of requirements.txt"
    # By Debian's own Python, with the environment's pip: what is needed may depend on the third number of the version.
    quietly env PYTHONPATH="$("$bin/python" -c 'import pip, pathlib; print(pathlib.Path(pip.__file__).parents[1])')" \
        /usr/bin/python3 -m pip download --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement "$root/requirements.txt" --dest "$work/wheels"
    rm -rf "$cache"/wheels-*
    mv "$work/wheels" "$wheels"
fi
# A context of its own: the files that the Dockerfile copies, and the wheels.
mkdir "$work/context"
(cd "$root" && cp -R --parents .dockerignore pyproject.toml requirements.txt README.md LICENSE conductor_ai workflows \
    activities api infra/docker "$work/context")
ln "$wheels" "$work/context/wheels" 2>/dev/null || cp -R "$wheels" "$work/context/wheels"
quietly docker build --network none --build-arg "BUILD_IMAGE=conductor-base-servers:$suite" \
    --build-arg "PYTHON_IMAGE=conductor-base-python3:$suite" ${CONDUCTOR_NO_CACHE:+--no-cache} --tag "$tag" \
    --file "$work/context/infra/docker/Dockerfile" "$work/context"
echo "made $tag"
