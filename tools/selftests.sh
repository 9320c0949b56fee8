#!/bin/sh
# Runs the kernel's own packetdrill selftests on the model: Debian's linux-source-6.12 is fetched into a scratch folder
# outside the repository, which goes away again; REFMODEL_SELFTESTS names a folder that has them already.
# Usage: selftests.sh REFMODEL [OPTION...]
set -eu
refmodel=$1
shift
if [ -n "${REFMODEL_SELFTESTS:-}" ]; then
    exec "$refmodel" run "$@" "$REFMODEL_SELFTESTS"
fi
for tool in apt-get dpkg-deb tar xz; do
    command -v "$tool" >/dev/null 2>&1 || { echo "selftests: $tool is missing; set REFMODEL_SELFTESTS" >&2; exit 2; }
done
case $refmodel in /*) ;; *) refmodel=$PWD/$refmodel ;; esac
scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
cd "$scratch"
echo "fetching linux-source-6.12 (about 150 MB)"
apt-get download -qq linux-source-6.12
folder=linux-source-6.12/tools/testing/selftests/net/packetdrill
dpkg-deb --fsys-tarfile linux-source-6.12_*.deb | tar -x --to-stdout ./usr/src/linux-source-6.12.tar.xz |
    xz --decompress --stdout | tar -x "$folder"
status=0
"$refmodel" run "$@" "$folder" || status=$?
exit "$status"
