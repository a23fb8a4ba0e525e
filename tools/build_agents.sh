#!/usr/bin/env bash
# Build the C agent for phones and boards with Debian's cross compilers, without an NDK, into profiler/native/prebuilt.
#
#   tools/build_agents.sh [FOLDER]       apt install gcc-{aarch64-linux-gnu,arm-linux-gnueabi,arm-linux-gnueabihf} libc6-dev-arm{64,hf}-cross
#
# The programs are linked against empty stub libraries that define the undefined symbols of the object file. So a program
# needs only bionic's libc.so on Android, and the oldest symbol versions of glibc on Linux. The same compiler produces
# the same bytes. manifest.json holds the sha256, compiler and flags of each program.
set -euo pipefail
cd "$(dirname "$0")/.."
native=profiler/native
out=${1:-$native/prebuilt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
export LC_ALL=C SOURCE_DATE_EPOCH=0

compile="-std=gnu11 -O2 -Wall -Wextra -Werror -fPIE -fno-stack-protector -fno-asynchronous-unwind-tables -fno-ident -ffile-prefix-map=$PWD=."
link="-pie -nostdlib -Wl,--hash-style=both -Wl,-z,max-page-size=16384 -Wl,-z,now -Wl,-z,relro -Wl,--build-id=none -Wl,--no-undefined -s"

# stub COMPILER NAME SONAME VERSION SYMBOLS: make a shared library that defines these symbols and does nothing.
stub() {
  local compiler=$1 name=$2 soname=$3 version=$4 symbol
  shift 4
  for symbol in "$@"; do
    case $symbol in
      stdin | stderr) echo "void *$symbol;" ;;
      *) echo "void $symbol(void) {}" ;;
    esac
  done > "$work/$name.c"
  local script=()
  if [ -n "$version" ]; then
    echo "$version { global: *; };" > "$work/$name.map"
    script=("-Wl,--version-script=$work/$name.map")
  fi
  "$compiler" -shared -nostdlib -fno-builtin -w -Wl,-soname,"$soname" "${script[@]}" -o "$work/$name.so" "$work/$name.c"
}

# build NAME COMPILER LIBC LIBDL VERSION FLAGS...
build() {
  local name=$1 compiler=$2 libc=$3 libdl=$4 version=$5 symbols program
  shift 5
  local objects=("$work/agent.o")
  if [ "$libc" = libc.so ]; then
    set -- "$@" -DOFA_BIONIC -ffreestanding -nostdinc -isystem "$("$compiler" -print-file-name=include)"
    "$compiler" $compile "$@" -c -o "$work/start.o" $native/bionic/start.c
    objects=("$work/start.o" "${objects[@]}")
  fi
  "$compiler" $compile "$@" -c -o "$work/agent.o" $native/agent.c
  if [ "$libc" != libc.so ]; then objects=("$("$compiler" -print-file-name=Scrt1.o)" "${objects[@]}"); fi
  local gcc_library
  gcc_library=$("$compiler" "$@" -print-libgcc-file-name)
  # Symbols that neither the program nor libgcc defines. libgcc itself needs raise and abort.
  symbols=$("${compiler%gcc}nm" -u "${objects[@]}" | awk '$1 == "U" || $1 == "w" { print $2 }' \
    | grep -vxE 'main|_GLOBAL_OFFSET_TABLE_|__aeabi_.*|__(preinit|init|fini)_array_start|_ITM_.*|__gmon_start__|__cxa_finalize')
  symbols=$(printf '%s\nraise\nabort\n' "$symbols" | sort -u)
  stub "$compiler" dl "$libdl" "$version" $(grep -E '^dl' <<< "$symbols")
  stub "$compiler" c "$libc" "$version" $(grep -vE '^dl' <<< "$symbols")
  program=$out/$name
  local interpreter=()
  case $name in
    android-arm64) interpreter=(-Wl,-dynamic-linker,/system/bin/linker64) ;;
    android-arm) interpreter=(-Wl,-dynamic-linker,/system/bin/linker) ;;
  esac
  "$compiler" $link "${interpreter[@]}" -o "$program" "${objects[@]}" "$work/c.so" "$work/dl.so" "$gcc_library"
  chmod 755 "$program"
  printf '  "%s": {"sha256": "%s", "bytes": %d, "compiler": "%s", "flags": "%s"}' "$name" \
    "$(sha256sum "$program" | cut -d' ' -f1)" "$(stat -c %s "$program")" "$("$compiler" --version | head -n 1)" \
    "$(sed -e "s# *-ffile-prefix-map=[^ ]*##" <<< "$compile $link") $(sed -E 's#-isystem [^ ]*##' <<< "$*")" >> "$work/manifest"
}

: > "$work/manifest"
build android-arm64 aarch64-linux-gnu-gcc libc.so libdl.so "" -mno-outline-atomics
echo , >> "$work/manifest"
build android-arm arm-linux-gnueabi-gcc libc.so libdl.so "" -march=armv7-a -mfpu=neon -mfloat-abi=softfp -mthumb
echo , >> "$work/manifest"
build linux-arm64 aarch64-linux-gnu-gcc libc.so.6 libdl.so.2 GLIBC_2.17 -mno-outline-atomics
echo , >> "$work/manifest"
build linux-arm arm-linux-gnueabihf-gcc libc.so.6 libdl.so.2 GLIBC_2.4
{ echo "{"; cat "$work/manifest"; echo; echo "}"; } > "$out/manifest.json"
