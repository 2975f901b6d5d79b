#!/usr/bin/env bash
# Runs a command inside a fresh memory cgroup and reports what it really used, page cache and kernel memory included.
#
#   bench/cgroup_run.sh LIMIT COMMAND [ARGUMENTS...]        LIMIT: bytes, or with K, M, G (binary)
#
# The page cache is dropped first, so that the run pays for its own reads. Swap is forbidden. Works with cgroup v2
# and v1; needs root. The last line on stderr is
#   cgroup: limit_bytes=… peak_bytes=… kernel_peak_bytes=… oom_kills=… limit_hits=… exit=…
# limit_hits counts how often the limit was reached (each time the kernel had to reclaim or refuse). The exit code is
# the command's.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "cgroup_run.sh: needs root (cgroups and the page cache)" >&2
  exit 1
fi

bytes_of() {
  local n=${1%[KMGkmg]} unit=${1##*[0-9]}
  if ! [[ $n =~ ^[0-9]+$ ]]; then echo "cgroup_run.sh: not a size: $1" >&2; exit 2; fi
  case "$unit" in
    [Kk]) echo $((n << 10)) ;; [Mm]) echo $((n << 20)) ;; [Gg]) echo $((n << 30)) ;; *) echo "$n" ;;
  esac
}
limit=$(bytes_of "$1")
shift

group_name=hob-bench.$$
v2_root=/sys/fs/cgroup
v1_root=/sys/fs/cgroup/memory
if grep -qw memory "$v2_root/cgroup.controllers" 2>/dev/null; then
  version=2 group=$v2_root/$group_name
  grep -qw memory "$v2_root/cgroup.subtree_control" || echo +memory >"$v2_root/cgroup.subtree_control"
elif [ -e "$v1_root/memory.limit_in_bytes" ]; then
  version=1 group=$v1_root/$group_name
else
  echo "cgroup_run.sh: no memory cgroup controller is mounted" >&2
  exit 1
fi

mkdir "$group"
sampler=
cleanup() {
  if [ -n "$sampler" ]; then kill "$sampler" 2>/dev/null || true; fi
  rmdir "$group" 2>/dev/null || { sleep 0.5; rmdir "$group" 2>/dev/null || true; }
}
trap cleanup EXIT

peak_file=
if [ "$version" = 2 ]; then
  echo "$limit" >"$group/memory.max"
  [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
  if [ ! -e "$group/memory.peak" ]; then  # kernels before 5.19: sample
    peak_file=$(mktemp)
    (
      peak=0
      while now=$(cat "$group/memory.current" 2>/dev/null); do
        if [ "$now" -gt "$peak" ]; then peak=$now; echo "$peak" >"$peak_file"; fi
        sleep 0.02
      done
    ) &
    sampler=$!
  fi
else
  echo "$limit" >"$group/memory.limit_in_bytes"
  # A little more than the limit: the kernel charges memory + swap first, and only memory counts its failures.
  [ ! -e "$group/memory.memsw.limit_in_bytes" ] || echo $((limit + (1 << 20))) >"$group/memory.memsw.limit_in_bytes"
fi

sync
echo 3 >/proc/sys/vm/drop_caches

exit_code=0
# The shell moves itself into the group and then becomes the command: nothing else is charged.
# shellcheck disable=SC2016
sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "$@" || exit_code=$?

field() { awk -v key="$2" '$1 == key { print $2; found = 1 } END { if (!found) print 0 }' "$1"; }
read_or_zero() { cat "$1" 2>/dev/null || echo 0; }
if [ "$version" = 2 ]; then
  if [ -n "$peak_file" ]; then
    peak=$(read_or_zero "$peak_file")
    rm -f "$peak_file"
  else
    peak=$(cat "$group/memory.peak")
  fi
  kernel_peak=$(field "$group/memory.stat" kernel)  # at the end: v2 keeps no peak of it
  oom_kills=$(field "$group/memory.events" oom_kill)
  limit_hits=$(field "$group/memory.events" max)
else
  peak=$(cat "$group/memory.max_usage_in_bytes")
  kernel_peak=$(read_or_zero "$group/memory.kmem.max_usage_in_bytes")
  oom_kills=$(field "$group/memory.oom_control" oom_kill)
  limit_hits=$(cat "$group/memory.failcnt")
fi
echo "cgroup: limit_bytes=$limit peak_bytes=$peak kernel_peak_bytes=$kernel_peak oom_kills=$oom_kills" \
     "limit_hits=$limit_hits exit=$exit_code" >&2
exit "$exit_code"
