# shellcheck shell=bash
# For backup.sh and restore.sh: a connection string whose password is on no command line, where every user of the machine
# could read it. `without_password URL` sets `address` and leaves the password where libpq looks for it.
passwords=$(mktemp)
trap 'rm -f "$passwords"' EXIT
export PGPASSFILE=$passwords

without_password() { # URL
    address=$1
    : >"$passwords"
    if [[ $1 =~ ^([a-z]+://[^:/@]+):([^@]*)@(.*)$ ]]; then
        address="${BASH_REMATCH[1]}@${BASH_REMATCH[3]}"
        local password
        password=$(printf '%b' "${BASH_REMATCH[2]//%/\\x}")
        password=${password//\\/\\\\}
        printf '*:*:*:*:%s\n' "${password//:/\\:}" >"$passwords"
    fi
}
