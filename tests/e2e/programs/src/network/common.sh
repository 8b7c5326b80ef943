# Waits until somebody listens at a port of the loopback; bash alone. Each script has a directory of its own.
wait_for() {
    for _ in $(seq 200); do
        (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    echo "nobody listens at $1" >&2
    exit 1
}
set -u
cd "$(mktemp -d)"
