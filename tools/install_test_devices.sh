#!/bin/sh
# Install the programs for the tests: adb, sshd, qemu, strace, cross compilers, a GPU in software (the Vulkan driver in
# chromium), a real adbd (unpacked, not installed), and an aarch64 C library with the LiteRT runtime. Run it as root on
# Debian. It asks nothing, and is quick if all is installed.
#
#   tools/install_test_devices.sh [PYTHON]      PYTHON has pip; python3 by default
#
# Unpacked files are in $OFA_TEST_CACHE, by default $XDG_CACHE_HOME/ofa-latency/test-devices (~/.cache/...):
#   adbd/      Debian's adbd with all its libraries, from the suite after bookworm (uses no library of this system)
#   busybox/   a static busybox, the shell of phones that have no library of Linux
#   aarch64/   a root directory with C and C++ libraries, and libLiteRt.so from the aarch64 wheel of ai-edge-litert
#   tflite-runtime/   a virtual environment with the last tflite-runtime, if PYTHON is 3.11 or older; the
#              tests find it through $OFA_TFLITE_RUNTIME_PYTHON=$OFA_TEST_CACHE/tflite-runtime/bin/python
set -eu

python=${1:-python3}
cache=${OFA_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ofa-latency/test-devices}
packages="adb openssh-server openssh-client qemu-user-static gcc g++-aarch64-linux-gnu gcc-arm-linux-gnueabi \
gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross iproute2 procps strace chromium libvulkan1"
adbd="adbd android-libbase android-liblog android-libcutils android-libboringssl libc6 libstdc++6 libgcc-s1 \
libprotobuf32t64 libbrotli1 liblz4-1 libzstd1 zlib1g libsystemd0 libcap2 libbsd0 libmd0 libxxhash0"
aarch64="libc6 libstdc++6 libgcc-s1 zlib1g"
litert=2.3.0

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# private_apt NAME SUITE ARCH ARGUMENTS...: run apt-get with separate lists, derived from this machine's sources.
private_apt() {
  state=$cache/apt-$1 suite=$2 arch=$3
  shift 3
  if [ ! -d "$state/sources" ]; then
    mkdir -p "$state/sources" "$state/lists/partial" "$state/archives/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/debian.list; do
      [ -f "$file" ] || continue
      case $file in *.sources) to=own.sources ;; *) to=own.list ;; esac
      # Keep only the main archive; updates and the security archive have other suites and are not needed.
      sed -e '/[Ss]ecurity/d' -e "s/bookworm-[a-z-]*//g" -e "s/bookworm/$suite/g" "$file" \
        | awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Types:/ || /URIs:/' > "$state/sources/$to"
    done
    : > "$state/status"
  fi
  apt-get -q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::Etc::SourceList=/dev/null \
    -o Dir::Etc::SourceParts="$state/sources" -o Dir::State="$state" -o Dir::State::Lists="$state/lists" \
    -o Dir::State::status="$state/status" -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

# unpack NAME SUITE ARCH PACKAGES...: download packages and unpack them into $cache/NAME, unless that is complete.
unpack() {
  name=$1 suite=$2 arch=$3
  shift 3
  [ -e "$cache/$name/.complete" ] && return
  private_apt "$name" "$suite" "$arch" update
  rm -rf "$cache/$name.debs" "$cache/$name"
  mkdir -p "$cache/$name.debs" "$cache/$name"
  (cd "$cache/$name.debs" && private_apt "$name" "$suite" "$arch" download "$@")
  for deb in "$cache/$name.debs"/*.deb; do dpkg-deb -x "$deb" "$cache/$name"; done
  rm -rf "$cache/$name.debs" "$cache/apt-$name"
}

missing=
for package in $packages; do
  dpkg -s "$package" > /dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
  as_root apt-get -q update
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing
fi

mkdir -p "$cache"
# shellcheck disable=SC2086
unpack adbd trixie amd64 $adbd
touch "$cache/adbd/.complete"
unpack busybox bookworm amd64 busybox-static
touch "$cache/busybox/.complete"

if [ ! -e "$cache/aarch64/.complete" ]; then
  # shellcheck disable=SC2086
  unpack aarch64 bookworm arm64 $aarch64
  "$python" -m pip download -q --no-deps --only-binary=:all: --platform manylinux_2_27_aarch64 --python-version 3.11 \
    --dest "$cache/wheel" "ai-edge-litert==$litert"
  "$python" - "$cache/wheel" "$cache/aarch64" << 'PYTHON'
import pathlib, sys, zipfile

wheel = next(pathlib.Path(sys.argv[1]).glob("*aarch64.whl"))
with zipfile.ZipFile(wheel) as archive:
    name = next(n for n in archive.namelist() if n.endswith("/libLiteRt.so"))
    pathlib.Path(sys.argv[2], "libLiteRt.so").write_bytes(archive.read(name))
PYTHON
  rm -rf "$cache/wheel"
  touch "$cache/aarch64/.complete"
fi

if [ ! -e "$cache/tflite-runtime/.complete" ] && "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
  rm -rf "$cache/tflite-runtime"
  "$python" -m venv "$cache/tflite-runtime"
  "$cache/tflite-runtime/bin/python" -m pip install -q "tflite-runtime==2.14.0" "numpy<2"
  touch "$cache/tflite-runtime/.complete"
fi
echo "$cache"
