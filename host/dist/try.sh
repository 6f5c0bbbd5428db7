#!/usr/bin/env bash
# Tries what `build.py` made on a Debian 12 that has nothing but its base packages.
#
#     host/dist/try.sh [--dist FOLDER] [--root CLEAN_ROOT]
#
# As root, with `debootstrap` or a CLEAN_ROOT that it made earlier, this is a chroot; the wheel is tried there once Python is
# installed. Otherwise only the environment is clean, and the last line says so.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
dist=$here/dist root=
while [ $# -gt 0 ]; do
    case $1 in
        --dist) dist=$2 ;;
        --root) root=$2 ;;
        *) sed -n '2,8p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
tarball=$(ls -t "$dist"/host-*-linux-gnu.tar.gz | head -1)
wheel=$(ls -t "$dist"/host_eval-*.whl | head -1)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$tarball" "$wheel" "$scratch"
cp "$here/host/dist/in_clean_root.sh" "$scratch"
cp -r "$here/host/dist/python/tests" "$scratch/tests"

if [ "$(id -u)" = 0 ] && { [ -n "$root" ] || command -v debootstrap >/dev/null; }; then
    if [ -z "$root" ]; then
        root=$scratch/root
        debootstrap --variant=minbase bookworm "$root" >"$scratch/debootstrap.log" || { tail "$scratch/debootstrap.log" >&2; exit 1; }
    fi
    rm -rf "$root/trial"
    mkdir -m 755 "$root/trial"
    cp -r "$scratch"/*.tar.gz "$scratch"/*.whl "$scratch"/*.sh "$scratch/tests" "$root/trial"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # /proc tells the program where it lies. The mounts go with the namespace.
    unshare --mount --propagation private bash -c '
        mount -t proc proc "$0/proc"
        mount --rbind /dev "$0/dev"
        exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root HTTP_PROXY="${HTTP_PROXY:-}" bash /trial/in_clean_root.sh /trial
    ' "$root"
    echo "tried in a Debian root: $(cat "$root/etc/debian_version")"
else
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$scratch" bash "$scratch/in_clean_root.sh" "$scratch"
    echo "tried in a clean environment on this machine: become root and install debootstrap to try it in a Debian of its own"
fi
