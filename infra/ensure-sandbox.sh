#!/usr/bin/env bash
# code_run needs Docker or bubblewrap. On Debian, as root, bubblewrap is installed here; elsewhere a sentence says what is missing.
set -eu
command -v bwrap >/dev/null 2>&1 && exit 0
docker info >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; then
  echo "code_run needs a sandbox: installing Debian's package bubblewrap (as root) …"
  if { apt-get install -y -qq bubblewrap || { apt-get update -qq && apt-get install -y -qq bubblewrap; }; } >/dev/null 2>&1; then
    exit 0
  fi
  echo "That did not work; the demo goes on without code_run."
  exit 0
fi
echo "Neither Docker nor bubblewrap is here, so code_run is off. Install one of them (Debian, Ubuntu: apt-get install bubblewrap)."
