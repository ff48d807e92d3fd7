#!/usr/bin/env bash
# Makes the sandbox images without a registry: Debian root file systems, imported and hardened.
#
#     infra/ci/images.sh CACHE PYTHON_TAG NODE_TAG [DATA_TAG [SUITE]]
#
# DOCKER_HOST says which engine. CACHE keeps the root file systems as tarballs, so that a second run downloads
# nothing. An image that exists already is left as it is. DATA_TAG is the larger Python image with numpy and pandas.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CACHE PYTHON_TAG NODE_TAG [DATA_TAG [SUITE]]" >&2
    exit 2
fi
cache=$1 python_tag=$2 node_tag=$3 data_tag=${4:-conductor-sandbox-python-data:local} suite=${5:-bookworm}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

root_fs() { # NAME PACKAGES -> a tarball in the cache; written aside and moved, so that half a tarball is never found
    local name=$1 packages=$2 tarball="$cache/$suite-$1.tar" work
    if [ ! -s "$tarball" ]; then
        work=$(mktemp -d "$cache/build.XXXXXX")
        if ! debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" >"$work/log" 2>&1; then
            tail -n 20 "$work/log" >&2
            rm -rf "$work"
            echo "debootstrap could not make a root file system with $packages; its last words are above." >&2
            return 1
        fi
        rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
        tar -C "$work/root" --exclude=./dev --exclude=./proc --exclude=./sys -cf "$work/tarball" .
        mv "$work/tarball" "$tarball"
        rm -rf "$work"
    fi
    echo "$tarball"
}

image() { # NAME PACKAGES DOCKERFILE TAG
    local name=$1 packages=$2 dockerfile=$3 tag=$4 tarball
    if docker image inspect "$tag" >/dev/null 2>&1; then
        echo "$tag is there already"
        return
    fi
    tarball=$(root_fs "$name" "$packages")
    docker import "$tarball" "conductor-base-$name:$suite" >/dev/null
    # The classic builder: BuildKit is not part of every engine, and nothing here needs it.
    DOCKER_BUILDKIT=0 docker build --quiet --network none --build-arg "BASE=conductor-base-$name:$suite" \
        --tag "$tag" --file "$here/../sandbox/$dockerfile" "$here/../sandbox" >/dev/null
    echo "made $tag"
}

image python3 python3 python.Dockerfile "$python_tag"
image nodejs nodejs node.Dockerfile "$node_tag"
# Debian's own packages: what `docker build` would fetch with pip is not to be had without a network.
image python-data python3,python3-numpy,python3-pandas python-data.Dockerfile "$data_tag"
