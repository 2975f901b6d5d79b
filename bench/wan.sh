#!/usr/bin/env bash
# A wide-area path on one machine: two network namespaces with tools/wanrelay between them. For measurements over a
# network on kernels without netem, and with outages on command. Needs root.
#
#   bench/wan.sh make NAME [OPTIONS OF wanrelay...]      e.g. --delay 7 --jitter 1 --up 20M --down 100M --loss 0.5
#   bench/wan.sh run-left NAME COMMAND [ARGUMENTS...]    in the namespace NAME-left, address 10.9.0.1 (--left-ip)
#   bench/wan.sh run-right NAME COMMAND [ARGUMENTS...]   in the namespace NAME-right, address 10.9.0.2 (--right-ip)
#   bench/wan.sh tell NAME COMMAND                       'drop both 5', 'drop up forever', restore, 'delay 25', stats
#   bench/wan.sh remove NAME                             prints the relay's last stats: store them beside the result
#
# The relay is build/release/wanrelay, or $WANRELAY. On a busy machine packets leave late when it waits for a processor
# (late_ms in the stats): chrt -f -p 50 $(cat /run/hob-wan-NAME/pid) cures that, --spin the last 50 us of waking up.
set -euo pipefail
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1 name=$2
shift 2
case $name in *[!A-Za-z0-9_-]*) echo "wan.sh: expected a name of letters, digits, - and _, got '$name'" >&2; exit 2 ;; esac
relay=${WANRELAY:-$(dirname "$0")/../build/release/wanrelay}
state=/run/hob-wan-$name  # the relay's control socket, its process id and what it prints
remove() {
  local pid
  if pid=$(cat "$state/pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = wanrelay ]; then
    kill "$pid"
    while [ -e "$state/control" ]; do sleep 0.05; done
  fi
  cat "$state/stats" 2>/dev/null || true
  ip netns del "$name-left" 2>/dev/null || true
  ip netns del "$name-right" 2>/dev/null || true
  rm -rf "$state"
}
case $command in
  make)
    [ -x "$relay" ] || { echo "wan.sh: expected the relay at $relay (cmake --build, or WANRELAY=...)" >&2; exit 1; }
    mkdir "$state"  # fails if there is one of this name
    trap remove EXIT
    for side in left right; do
      ip netns add "$name-$side"
      ip -n "$name-$side" link set lo up
    done
    # A session of its own: Ctrl-C during a measurement must not end the path.
    setsid "$relay" --left "$name-left" --right "$name-right" --control "$state/control" "$@" \
      </dev/null >"$state/stats" 2>"$state/errors" &
    echo $! >"$state/pid"
    until "$relay" --control "$state/control" --send restore >"$state/ready" 2>/dev/null; do
      if ! kill -0 $! 2>/dev/null; then
        cat "$state/errors" >&2
        exit 1
      fi
      sleep 0.05
    done
    trap - EXIT
    ;;
  run-left | run-right)
    [ $# -ge 1 ] || usage
    exec ip netns exec "$name-${command#run-}" "$@"
    ;;
  tell)
    [ $# -eq 1 ] || usage
    exec "$relay" --control "$state/control" --send "$1"
    ;;
  remove)
    [ $# -eq 0 ] || usage
    [ -d "$state" ] || { echo "wan.sh: expected a path called $name, there is none" >&2; exit 1; }
    remove
    ;;
  *) usage ;;
esac
