#!/usr/bin/env bash
# A disk whose speed does not move: ext4 on a loop device whose image lies in memory, reads limited to a rate by the
# blkio (io) cgroup. For measurements of streaming on machines whose disk is shared with others. Needs root.
#
#   bench/steady_disk.sh make DIR SIZE          DIR becomes the disk; copy the model there. SIZE comes out of the memory.
#   bench/steady_disk.sh run DIR RATE COMMAND [ARGUMENTS...]      RATE: bytes per second, e.g. 800M (decimal)
#   bench/steady_disk.sh remove DIR
#
# Combine with the memory limit: bench/steady_disk.sh run DIR 800M bench/cgroup_run.sh 2G build/release/hob bench ...
set -euo pipefail
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1 dir=$2
image=$dir.image
loop_of() { losetup -n -O NAME -j "$image/disk" | head -1; }
case $command in
  make)
    [ $# -eq 3 ] || usage
    mkdir -p "$dir" "$image"
    mount -t tmpfs -o size="$3" tmpfs "$image"
    truncate -s $(($(stat -f -c '%a * %S' "$image") - (16 << 20))) "$image/disk"
    mkfs.ext4 -q -F -m 0 -O ^has_journal "$image/disk"
    mount -o loop,noatime "$image/disk" "$dir"
    ;;
  run)
    [ $# -ge 4 ] || usage
    rate=$(numfmt --from=si "$3")
    shift 3
    device=$(lsblk -n -d -o MAJ:MIN "$(loop_of)" | tr -d ' ')
    if grep -qw io /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
      group=/sys/fs/cgroup/hob-disk.$$
      grep -qw io /sys/fs/cgroup/cgroup.subtree_control || echo +io >/sys/fs/cgroup/cgroup.subtree_control
      mkdir "$group"
      echo "$device rbps=$rate" >"$group/io.max"
    else
      group=/sys/fs/cgroup/blkio/hob-disk.$$
      mkdir "$group"
      echo "$device $rate" >"$group/blkio.throttle.read_bps_device"
    fi
    trap 'rmdir "$group" 2>/dev/null || true' EXIT
    # shellcheck disable=SC2016
    sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "$@"
    ;;
  remove)
    umount "$dir"
    umount "$image"
    rmdir "$dir" "$image"
    ;;
  *) usage ;;
esac
