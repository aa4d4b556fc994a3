# Sourced by scripts/servers and scripts/run-full: installs the servers that the product runs on, starts them in sessions
# of their own (a Ctrl-C on the terminal reaches only the script, which ends them in order) and ends them again.
#
# The caller sets `folder`: pids, logs and data live below it. Nothing in here chooses ports or says what to start.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$scripts")
name=$(basename "$0")

say() {
    echo "$name: $*" >&2
}

fail() {
    say "$@"
    exit 1
}

# fail_with_log SERVER WHAT…: one line, then what the server itself had to say.
fail_with_log() {
    local server=$1
    shift
    say "$server $*; the end of $folder/logs/$server.log:"
    tail -n 20 "$folder/logs/$server.log" | sed 's/^/    /' >&2
    exit 1
}

# --- what has to be installed ---

need_redis() {
    "$scripts/need" redis-server redis-server
}

need_haproxy() {
    "$scripts/need" haproxy haproxy
}

# Sets `postgres_bin`. Debian keeps servers out of the path, a folder for each version.
need_postgres() {
    find_postgres && return
    "$scripts/need" pg_createcluster postgresql-common
    # Without this the package starts a server of its own on port 5432.
    as_root sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    "$scripts/need" initdb postgresql
    find_postgres || fail "PostgreSQL is installed, but initdb is not below /usr/lib/postgresql"
}

find_postgres() {
    local initdb
    initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    : "${initdb:=$(command -v initdb)}"
    [ -n "$initdb" ] && postgres_bin=$(dirname "$initdb")
}

# Sets `dynoxide`, a DynamoDB-compatible server.
need_dynoxide() {
    make -s -C "$root" test-tools
    dynoxide=$(ls -d "$root"/tests/tools/node_modules/@dynoxide/*/dynoxide 2>/dev/null | head -n 1)
    [ -n "$dynoxide" ] || fail "no DynamoDB-compatible server for $(uname -sm) on npm (@dynoxide)"
}

# Sets `python`, with tests/requirements.txt installed.
need_python() {
    local wanted=$root/tests/requirements.txt venv=${CARGO_TARGET_DIR:-$root/target}/python
    python=$venv/bin/python
    cmp -s "$wanted" "$venv/installed" && return
    "$scripts/need" python3 python3 python3-venv
    python3 -c 'import ensurepip' 2>/dev/null || as_root apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
    say "installing $(grep -v '^#' "$wanted" | wc -l) Python packages into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/installed"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# --- ports ---

# free_port VARIABLE: a port nobody listens on, below those that the system gives to clients.
free_port() {
    local port
    while :; do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
        listening "$port" || [[ " ${taken_ports:-} " == *" $port "* ]] || break
    done
    taken_ports="${taken_ports:-} $port"
    printf -v "$1" %s "$port"
}

listening() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# --- processes ---

# spawn SERVER COMMAND…: starts it in a session of its own, its output in logs/SERVER.log.
spawn() {
    local server=$1
    shift
    setsid "$@" >>"$folder/logs/$server.log" 2>&1 </dev/null &
    echo "$! $(started_at $!)" >"$folder/pids/$server"
    disown
}

# When a process started: with its id it is unmistakable, also after ids have been used anew.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return
    stat=${stat##*) }
    set -- $stat
    # A process that has ended and not been waited for is none.
    [ "$1" != Z ] && echo "${20}"
}

# Sets `pid` if the server runs.
runs() {
    local since
    read -r pid since 2>/dev/null <"$folder/pids/$1" || return
    [ -n "$since" ] && [ "$(started_at "$pid")" = "$since" ]
}

# end SIGNAL SECONDS SERVER…: asks all, waits, kills what is left.
end() {
    local signal=$1 tries=$(($2 * 20)) server pid
    shift 2
    for server; do
        runs "$server" && kill "-$signal" "$pid" 2>/dev/null
    done
    for server; do
        while runs "$server" && [ $((tries--)) -gt 0 ]; do sleep 0.05; done
        # A server and its children are a group.
        runs "$server" && kill -KILL -- "-$pid" 2>/dev/null
        rm -f "$folder/pids/$server"
    done
    return 0
}

# wait_for SERVER COMMAND…: until the command succeeds, at most 30 s, at most as long as the server lives.
wait_for() {
    local server=$1 until=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        runs "$server" || fail_with_log "$server" "ended at its start"
        [ "$SECONDS" -lt "$until" ] || fail_with_log "$server" "did not answer within 30 s"
        sleep 0.05
    done
}

# --- PostgreSQL, Redis, DynamoDB-compatible ---

# PostgreSQL refuses to run as root. Its user may search the folders above the data, wherever the checkout is.
as_postgres=()
if [ "$(id -u)" -eq 0 ]; then
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups
        --inh-caps=+dac_override --ambient-caps=+dac_override --)
fi

postgres_folder() {
    mkdir -p "$1"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$1"
    chmod 700 "$1"
}

# new_postgres_server DATA: an empty server whose local clients are trusted.
new_postgres_server() {
    postgres_folder "$1"
    "${as_postgres[@]}" "$postgres_bin/initdb" -D "$1" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
        >>"$folder/logs/postgres.log" 2>&1 || fail_with_log postgres "could not be initialized"
}

# run_postgres SERVER DATA PORT SETTING…
run_postgres() {
    local server=$1 data=$2 port=$3 setting settings=()
    shift 3
    for setting; do settings+=(-c "$setting"); done
    spawn "$server" "${as_postgres[@]}" "$postgres_bin/postgres" -D "$data" -p "$port" -h 127.0.0.1 -k '' \
        -c max_connections=300 -c dynamic_shared_memory_type=mmap "${settings[@]}"
    wait_for "$server" "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$port"
}

# run_redis SERVER DATA PORT SETTING…
run_redis() {
    local server=$1 data=$2 port=$3
    shift 3
    mkdir -p "$data"
    spawn "$server" redis-server --port "$port" --bind 127.0.0.1 --dir "$data" --save '' "$@"
    wait_for "$server" redis_answers "$port"
}

redis_answers() {
    [ "$(redis-cli -p "$1" ping)" = PONG ]
}

# run_dynoxide SERVER PORT SETTING…
run_dynoxide() {
    local server=$1 port=$2
    shift 2
    spawn "$server" "$dynoxide" --host 127.0.0.1 --port "$port" "$@"
    wait_for "$server" http_answers "$port"
}

# http_answers PORT [PATH]: whatever the status.
http_answers() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "${2:-/}" >&3
    read -r -t 5 line <&3
    exec 3>&-
    [[ $line == HTTP/* ]]
}
