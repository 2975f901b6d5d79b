#!/usr/bin/env bash
# Installs the Debian 12 packages that a task needs. This is the only list of them.
#
#   scripts/deps.sh [build] [test] [cross] [demo] [bench] [fuzz]      (default: build)
#
# Needs root or sudo. Does nothing, quickly, when everything is there.
set -euo pipefail

packages_of() {
  case "$1" in
    # libgtest-dev and python3 belong to build: configuring the project configures its tests too.
    build) echo "g++ cmake ninja-build pkg-config ccache git ca-certificates python3 libgtest-dev libfmt-dev" \
                "libcli11-dev nlohmann-json3-dev libutf8proc-dev libpcre2-dev libedit-dev liburing-dev libxxhash-dev" \
                 "libboost-dev libssl-dev libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc" ;;
    # The proxy of the tested replica setup (packaging/haproxy.cfg); network namespaces (tools/wanrelay).
    test) echo "haproxy iproute2" ;;
    # The aarch64 kernel tests of an x86 build; googletest holds the sources of libgtest-dev.
    cross) echo "g++-aarch64-linux-gnu qemu-user-static googletest" ;;
    demo) echo "python3 python3-venv" ;;
    bench) echo "python3 python3-venv fio iproute2 libbenchmark-dev" ;;
    fuzz) echo "clang libclang-rt-14-dev" ;;
    *) echo "deps.sh: unknown group '$1' (build, test, cross, demo, bench, fuzz)" >&2; exit 2 ;;
  esac
}

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

wanted=()
for group in "${@:-build}"; do
  list=$(packages_of "$group")
  read -ra names <<<"$list"
  wanted+=("${names[@]}")
done

missing=()
for name in "${wanted[@]}"; do
  installed "$name" || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "deps.sh: cannot install (neither root nor sudo): ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
  echo "deps.sh: this is not Debian; please install what corresponds to: ${missing[*]}" >&2
  exit 1
fi

echo "deps.sh: installing ${missing[*]}"
install_missing() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
}
# Package lists may be absent (container images) or stale (a mirror has moved on).
if ! install_missing 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  install_missing
fi
