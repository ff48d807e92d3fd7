#!/usr/bin/env bash
# Makes the two sandbox images without a registry: Debian root file systems, imported and hardened.
#
#     infra/ci/images.sh CACHE PYTHON_TAG NODE_TAG [SUITE]
#
# DOCKER_HOST says which engine. CACHE keeps the root file systems as tarballs, so that a second run downloads
# nothing. An image that exists already is left as it is.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CACHE PYTHON_TAG NODE_TAG [SUITE]" >&2
    exit 2
fi
cache=$1 python_tag=$2 node_tag=$3 suite=${4:-bookworm}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

root_fs() { # PACKAGE -> a tarball in the cache; written aside and moved, so that half a tarball is never found
    local package=$1 tarball="$cache/$suite-$1.tar" work
    if [ ! -s "$tarball" ]; then
        work=$(mktemp -d "$cache/build.XXXXXX")
        if ! debootstrap --variant=minbase --include="$package" "$suite" "$work/root" >"$work/log" 2>&1; then
            tail -n 20 "$work/log" >&2
            rm -rf "$work"
            echo "debootstrap could not make a root file system with $package; its last words are above." >&2
            return 1
        fi
        rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
        tar -C "$work/root" --exclude=./dev --exclude=./proc --exclude=./sys -cf "$work/tarball" .
        mv "$work/tarball" "$tarball"
        rm -rf "$work"
    fi
    echo "$tarball"
}

image() { # PACKAGE DOCKERFILE TAG
    local package=$1 dockerfile=$2 tag=$3 tarball
    if docker image inspect "$tag" >/dev/null 2>&1; then
        echo "$tag is there already"
        return
    fi
    tarball=$(root_fs "$package")
    docker import "$tarball" "conductor-base-$package:$suite" >/dev/null
    # The classic builder: BuildKit is not part of every engine, and nothing here needs it.
    DOCKER_BUILDKIT=0 docker build --quiet --network none --build-arg "BASE=conductor-base-$package:$suite" \
        --tag "$tag" --file "$here/../sandbox/$dockerfile" "$here/../sandbox" >/dev/null
    echo "made $tag"
}

image python3 python.Dockerfile "$python_tag"
image nodejs node.Dockerfile "$node_tag"
