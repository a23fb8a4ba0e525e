#!/bin/bash
# Phones: real adbd processes in private namespaces, behind a real adb server on a UNIX socket.
#
#   unshare --user --map-root-user --mount --net --pid --fork --kill-child adb_phones.sh FOLDER CACHE N
#
# FOLDER/phoneI is what the test may change: props, thermalservice, battery (what getprop and dumpsys say), cpu/ (its
# /sys/devices/system/cpu), size (of /data, for mount). Phone I is 127.0.0.1:(6999 + 2 I). Commands on stdin: `stop I`
# kills its adbd as unplugging would end it, `start I` starts it again. Everything ends with this script.
#
# A phone with FOLDER/phoneI/system has this as its /system, and nothing of Linux: its shell and tools are a static
# busybox, and adbd brings its own libraries. The other phones have the /usr of this machine.
set -eu
folder=$1 cache=$2 n=$3
adbd=$cache/adbd/usr/lib/x86_64-linux-gnu
arm=$cache/aarch64

ip link set lo up
mkdir -p "$folder/ns"
mount -t tmpfs none "$folder/ns"
mount -t proc proc /proc
# aarch64 programs just run, by qemu, in these namespaces only (Linux 6.7 or newer); F: qemu is opened now, not at exec.
if [ -d "$arm" ] && mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2> /dev/null; then
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":ofa-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" > /proc/sys/fs/binfmt_misc/register || true
fi

make_phone() { # NUMBER
  local own=$folder/phone$1 root=$folder/ns/phone$1
  mkdir -p "$root"/{proc,sys,dev,phone,data/local,system/bin,adbd}
  for d in proc sys dev; do mount --rbind "/$d" "$root/$d"; done
  if [ -d "$own/system" ]; then
    cp -R "$own/system" "$root/"
    cp "$cache/busybox/bin/busybox" "$root/system/bin/.busybox"
    for name in $("$cache/busybox/bin/busybox" --list); do ln -sf .busybox "$root/system/bin/$name"; done
    rm "$root/system/bin/uname" "$root/system/bin/env"
    printf '#!/bin/sh\nsleep %s\nexec busybox env "$@"\n' "$(cat "$own/delay")" > "$root/system/bin/env"
    ln -s system/bin "$root/bin"
  else
    mkdir "$root"/{usr,etc,root,arm}
    for d in usr etc; do mount --rbind "/$d" "$root/$d"; done
    for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
    if [ -d "$arm" ]; then mount --bind "$arm" "$root/arm"; fi
  fi
  mount --bind "$own" "$root/phone"
  mount --bind "$cache/adbd" "$root/adbd"
  mount -t tmpfs -o "size=$(cat "$own/size"),mode=0771" none "$root/data/local"
  mkdir -m 0771 "$root/data/local/tmp"
  if [ -d "$own/cpu" ]; then mount --bind "$own/cpu" "$root/sys/devices/system/cpu"; fi
  if [ -e "$own/cpuinfo" ]; then mount --bind "$own/cpuinfo" "$root/proc/cpuinfo"; fi
  printf '#!/bin/sh\nsed -n "s/^$1=//p" /phone/props\n' > "$root/system/bin/getprop"
  printf '#!/bin/sh\ncat "/phone/$1"\n' > "$root/system/bin/dumpsys"
  printf '#!/bin/sh\nif [ "$1" = -m ]; then sed -n "s/^machine=//p" /phone/props; else exec %s "$@"; fi\n' \
    "$(if [ -d "$own/system" ]; then echo /system/bin/busybox uname; else echo /usr/bin/uname; fi)" > "$root/system/bin/uname"
  chmod +x "$root"/system/bin/*
}

start() { # NUMBER
  (
    export PATH=/system/bin:/usr/bin:/bin:/usr/sbin:/sbin QEMU_CPU=cortex-a76
    if [ -d "$folder/phone$1/system" ]; then export LD_LIBRARY_PATH=/system/lib64; else export QEMU_LD_PREFIX=/arm; fi
    export ADBD_PORT=$((6999 + 2 * $1)) HOME=/root
    exec chroot "$folder/ns/phone$1" "/adbd/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path \
      "/adbd/usr/lib/x86_64-linux-gnu:/adbd/usr/lib/x86_64-linux-gnu/android" \
      /adbd/usr/lib/android-sdk/platform-tools/adbd
  ) > "$folder/adbd$1.log" 2>&1 < /dev/null &
  eval "pid$1=$!"
}

for i in $(seq "$n"); do
  make_phone "$i"
  start "$i"
done
HOME=$folder ADB_LOCAL_TRANSPORT_MAX_PORT=5554 adb -L "localfilesystem:$folder/adb.sock" nodaemon server \
  > "$folder/server.log" 2>&1 < /dev/null &
# A client that finds no server starts one, outside.
until [ -S "$folder/adb.sock" ]; do sleep 0.02; done
echo ready
while read -r command i; do
  case $command in
    start) start "$i" ;;
    stop) eval "kill -KILL \$pid$i" ;;
  esac
  echo "$command $i"
done
