#!/usr/bin/env bash
# Fetches the arm64 packages of hob's libraries, with the C and C++ runtime to run it under qemu-user, into
# build/aarch64-sysroot: what the preset `aarch64` compiles against. Installs nothing on this machine and needs no root:
# apt gets a state of its own, with Debian's own package sources of this machine.
#
#   scripts/arm64_sysroot.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The arm64 forms of scripts/deps.sh build, and what they link to. Not libc6-dev: its headers come with the cross compiler,
# and a second copy would hide those of the C++ library.
packages=(libc6 libgcc-s1 libstdc++6
  libfmt-dev libfmt9 libcli11-dev nlohmann-json3-dev libutf8proc-dev libutf8proc2 libpcre2-dev libpcre2-8-0 libgtest-dev libxxhash-dev
  liburing-dev liburing2 libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0 libncurses-dev libtinfo6
  libboost1.74-dev libboost-dev libssl-dev libssl3 zlib1g-dev zlib1g
  libgrpc++-dev libgrpc++1.51 libgrpc-dev libgrpc29 libprotobuf-dev libprotobuf32 libprotobuf-lite32 libprotoc32
  libabsl-dev libabsl20220623 libc-ares-dev libc-ares2 libre2-dev libre2-9)

sysroot=$PWD/build/aarch64-sysroot
apt=$sysroot/.apt
wanted="${packages[*]}"
if [ "$(cat "$sysroot/.packages" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

rm -rf "$sysroot"
mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,debs}
: >"$apt/status"
sources=/etc/apt/sources.list.d/debian.sources
[ -e "$sources" ] || sources=/etc/apt/sources.list
options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=
  -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
  -o Dir::Etc::sourcelist="$sources" -o Dir::Etc::sourceparts=-)

apt-get "${options[@]}" update
(cd "$apt/debs" && apt-get "${options[@]}" download "${packages[@]}")
for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$sysroot"; done
rm -rf "$apt"
echo "$wanted" >"$sysroot/.packages"
echo "arm64_sysroot.sh: ${#packages[@]} packages in $sysroot"
