# The frame of a service script, which is sourced first. The script sets nothing before and defines:
#   install        fetches and unpacks what is missing, into $cache (idempotent; one at a time)
#   launch         calls `start PROCESS CMD…` once for each process, then `await SECONDS`
#   ready          succeeds when the server answers a real request
#   info           prints one NAME=value a line: where it listens, its credentials
# and ends with: service "$@"      (up | down | crash | status | wipe)
#
# KAREZ_SERVICES_DIR    data, logs and process ids, each service in a folder of its name. Default: /tmp/karez-services; for who is not root, with the user's id.
#                       Servers that refuse root run as users of their own, so others must be able to enter the folder.
# KAREZ_SERVICES_CACHE  what was downloaded and unpacked; survives. Default: karez/services in the user's cache; for root /var/cache, since nobody else may enter /root.
# A process is stopped only by its recorded id and start time. Two callers at once take turns, by a lock for each service.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$(basename "$0" .sh)
if [ "$(id -u)" = 0 ]; then
  services=${KAREZ_SERVICES_DIR:-/tmp/karez-services} cache=${KAREZ_SERVICES_CACHE:-/var/cache/karez/services}
else
  services=${KAREZ_SERVICES_DIR:-/tmp/karez-services-$(id -u)} cache=${KAREZ_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/karez/services}
fi
umask 022
dir=$services/$name
mkdir -p "$dir" "$cache"

born() { awk '{sub(/.*\) /,""); print $20}' "/proc/$1/stat" 2>/dev/null; }
export -f born

alive() { # alive PIDFILE: the recorded process still is the one we started
  local pid at; [ -s "$1" ] && read -r pid at <"$1" && [ -n "$at" ] && [ "$(born "$pid")" = "$at" ] && [ "$(ps -o stat= -p "$pid" | cut -c1)" != Z ]
}

running() { local f; for f in "$dir"/*.pid; do alive "$f" && return; done; return 1; }

start() { # start PROCESS CMD…: detached, log in PROCESS.log, pid and start time in PROCESS.pid
  local p=$1 file; shift; file=$dir/$p.pid; alive "$file" && return
  rm -f "$file"
  # A shell stays as the parent, to reap: a zombie's pid would hold the lock files of PostgreSQL and MySQL after kill -9. It records the pid by itself,
  # so that a caller that is interrupted here leaves no server that nobody knows. Closed are this script's locks.
  setsid nohup bash -c '"${@:2}" & echo "$! $(born $!)" >"$1"; wait' _ "$file" "$@" >"$dir/$p.log" 2>&1 </dev/null 8>&- 9>&- &
  until [ -s "$file" ]; do sleep 0.05; done
}

await() { # await SECONDS: until `ready`; fails at once when a process has died
  local until=$((SECONDS + $1)) f
  until ready >/dev/null 2>&1; do
    for f in "$dir"/*.pid; do alive "$f" || { echo "$name: $(basename "$f" .pid) died:" >&2; tail -20 "${f%.pid}.log" >&2; return 1; }; done
    [ $SECONDS -lt $until ] || { echo "$name: no answer after $1 s, see $dir/*.log" >&2; return 1; }
    sleep 0.3
  done
}

stop() {
  local f pid i
  for f in "$dir"/*.pid; do
    if alive "$f"; then
      read -r pid _ <"$f"; kill "$pid"
      for i in $(seq 100); do alive "$f" || break; sleep 0.2; done
      if alive "$f"; then kill -9 "$pid"; fi
    fi
    rm -f "$f"
  done
}

# kill -9 of every recorded process; data stays. For tests of recovery
crash() { local f pid; for f in "$dir"/*.pid; do if alive "$f"; then read -r pid _ <"$f"; kill -9 "$pid"; while alive "$f"; do sleep 0.05; done; fi; rm -f "$f"; done; }

# locked CMD…: CMD, while nobody else installs this service, also for another folder. (An `||` here would switch off `set -e` within CMD.)
locked() { exec 8>"$cache/.lock-$name"; flock 8; rm -rf "$cache/fetch.$name".*; "$@"; exec 8>&-; }

service() {
  exec 9>"$dir/.lock"; flock 9
  case ${1:-} in
    up) if running && ready >/dev/null 2>&1; then :; else stop; locked install; launch; fi; info ;;
    down) stop ;;
    crash) crash ;;
    wipe) stop; exec 9>&-; rm -rf "$dir" ;;
    status) if running && ready >/dev/null 2>&1; then info; else return 3; fi ;;
    *) echo "usage: $(basename "$0") up|down|crash|status|wipe" >&2; return 2 ;;
  esac
}
