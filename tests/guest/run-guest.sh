#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# run-guest.sh [OPTION...] SCRIPT: boot a kernel under qemu and run SCRIPT in it.
#
#   --mem MiB         memory of the guest (400)
#   --timeout S       it fails if it is not done after so long (120)
#   --host-port P     a port of 127.0.0.1 the script may use, there 10.0.2.2;
#                     something must listen on it.  The script has the first
#                     one as $HOST_PORT, more as $HOST_PORT_2, ...
#   --env NAME=VALUE  a variable of the script
#   --on-ask COMMAND  run on the host for each `host WORD...` in the script,
#                     with the words added; COMMAND is split at blanks, sees
#                     GUEST_QEMU_PID, and its first line goes to the script
#   --root-disk FILE  the guest's root is on this image, which is not changed;
#                     mkinitramfs.sh has made it together with GUEST_INITRAMFS
#   --root-drive OPTS the guest's root is qemu's -drive OPTS, such an image
#   --monitor PATH    qemu's monitor is on the named pipes PATH.in and PATH.out
#   --disk FILE[,LOG] a virtio disk; what it writes and flushes is also in LOG,
#                     as qemu's blklogwrites driver has it (powercut.c)
#   --cut FILE        if FILE is there, it was meant that the guest ended before
#                     its script did: exit status 3
#
# Results, lines "RESULT key=value" and "GUEST-EXIT status", come on stdout,
# the script's own output on stderr.  Exit: the script's status; 124 if the
# time ran out; 125 if the guest ended otherwise than by its script's end
# (panic, oops, hung task, soft lock-up, qemu killed): then, and if the script
# failed, the console's last 60 lines are on stderr and the whole console is
# kept in $GUEST_LOGDIR (the current folder).  77: this machine cannot.
#
# GUEST_INITRAMFS   one made before by mkinitramfs.sh (made anew if unset)
# GUEST_PROGRAMS    if made anew: programs to put in
# GUEST_ACCEL       tcg or kvm (tcg: a /dev/kvm that is there may still hang)
# GUEST_SLOW        factor for --timeout on slow machines (1)

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"

mem=400 timeout=120 ports=() params=() on_ask=() root=() monitor=() disk=() cut=
while [ $# -gt 1 ]; do
  case $1 in
    --mem) mem=$2 ;;
    --timeout) timeout=$2 ;;
    --host-port) ports+=("$2") ;;
    --env) params+=("$2") ;;
    --on-ask) read -ra on_ask <<< "$2" ;;
    --root-disk)
      # What the guest writes there goes away with it.
      root=(-device "virtio-blk-pci,drive=root" -drive
        "id=root,if=none,format=raw,snapshot=on,cache=unsafe,file=$2")
      ;;
    --root-drive) root=(-drive "$2") ;;
    --monitor) monitor=(-chardev "pipe,id=mon,path=$2" -mon chardev=mon) ;;
    --disk)
      medium="driver=file,node-name=medium,filename=${2%,*}"
      disk=(-blockdev "$medium" -device "virtio-blk-pci,drive=medium")
      test "${2%,*}" != "$2" || { shift 2; continue; }
      log="driver=file,node-name=log,filename=${2##*,},cache.no-flush=on"
      logged="driver=blklogwrites,node-name=disk,file=medium,log=log"
      logged+=",log-super-update-interval=16"
      disk=(-blockdev "$medium" -blockdev "$log" -blockdev "$logged"
        -device "virtio-blk-pci,drive=disk")
      ;;
    --cut) cut=$2 ;;
    *) break ;;
  esac
  shift 2
done
if [ $# -ne 1 ] || [ ! -r "$1" ]; then
  echo "usage: run-guest.sh [--mem MiB] [--timeout S] [--host-port P]..." \
    "[--env NAME=VALUE]... [--on-ask COMMAND] [--root-disk FILE]" \
    "[--root-drive OPTIONS] [--monitor PATH] [--disk FILE[,LOG]]" \
    "[--cut FILE] SCRIPT" >&2
  exit 2
fi
script=$1
timeout=$((timeout * ${GUEST_SLOW:-1}))
test ${#root[@]} -eq 0 || : "${GUEST_INITRAMFS:?a root on a disk needs it}"
guest_need qemu-system-x86_64:qemu-system-x86 cpio:cpio setpriv:util-linux
kernel=''
guest_kernel

work='' qemu_pid=''
# shellcheck disable=SC2317 # by trap
finish ()
{
  if [ -n "$qemu_pid" ]; then
    kill -KILL "$qemu_pid" 2> /dev/null
    wait "$qemu_pid" 2> /dev/null
  fi
  if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/run-guest.XXXXXX") || exit 1

# The second archive: the script and its variables, quoted for the shell.
make_archives ()
{
  local item n=1 name value
  params+=("GUEST_TIMEOUT=$timeout")
  mkdir -p "$work/add/guest"
  cp "$script" "$work/add/guest/script"
  for item in ${ports[@]+"${ports[@]}"}; do
    name=HOST_PORT
    test $n -eq 1 || name=HOST_PORT_$n
    params+=("$name=$item")
    n=$((n + 1))
  done
  for item in ${params[@]+"${params[@]}"}; do
    value=${item#*=}
    printf "%s='%s'\n" "${item%%=*}" "${value//\'/\'\\\'\'}"
  done > "$work/add/guest/params"

  if [ -n "${GUEST_INITRAMFS-}" ]; then
    cp "$GUEST_INITRAMFS" "$work/initramfs" || exit 1
  else
    # shellcheck disable=SC2086 # a list
    "$here/mkinitramfs.sh" "$work/initramfs" ${GUEST_PROGRAMS-} || exit
  fi
  guest_cpio "$work/add" >> "$work/initramfs" || exit 1
}

start_qemu ()
{
  local accel=(-accel "tcg,thread=multi" -cpu max)
  test "${GUEST_ACCEL:-tcg}" = tcg || accel=(-accel kvm -cpu host)
  mkfifo "$work/line.in" "$work/line.out" || exit 1
  exec 4<> "$work/line.out" 5<> "$work/line.in"

  # setpriv: qemu ends with this shell, also if that is killed.
  setpriv --pdeathsig KILL qemu-system-x86_64 "${accel[@]}" \
    -smp 2 -m "$mem" -display none -no-reboot -nodefaults -no-user-config \
    -kernel "/boot/vmlinuz-$kernel" -initrd "$work/initramfs" \
    -append "console=ttyS0 rootfstype=ramfs loglevel=5 panic=-1 oops=panic \
hung_task_panic=1 softlockup_panic=1 mitigations=off nokaslr \
rcupdate.rcu_cpu_stall_timeout=60 random.trust_cpu=on" \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -chardev "pipe,id=line,path=$work/line" -serial chardev:line \
    -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
    ${monitor[@]+"${monitor[@]}"} ${root[@]+"${root[@]}"} ${disk[@]+"${disk[@]}"} \
    -device virtio-rng-pci < /dev/null > "$work/qemu" 2>&1 4>&- 5>&- &
  qemu_pid=$!
}

# One line from the guest's second serial port.
take_line ()
{
  case $1 in
    "START "*) started_ms=$(guest_now) ;;
    "RESULT "*) printf '%s\n' "$1" ;;
    "EXIT "*) status=${1#EXIT } ;;
    "ASK "*) answer "${1#ASK }" ;;
  esac
}

answer ()
{
  local words text code
  read -ra words <<< "$1"
  text=$(GUEST_QEMU_PID=$qemu_pid ${on_ask[@]+"${on_ask[@]}"} "${words[@]}" \
    4>&- 5>&-)
  code=$?
  printf '%d %s\n' "$code" "${text%%$'\n'*}" >&5
}

# Take lines until qemu ends or time is up; what is in the pipe when qemu has
# ended is still taken.
listen ()
{
  local line='' part last=no
  while :; do
    if read -r -t 0.2 -u 4 part; then
      take_line "$line$part"
      line=''
      continue
    fi
    line+=$part
    test $last = no || return 0
    if ! kill -0 "$qemu_pid" 2> /dev/null; then
      last=yes
    elif [ "$(guest_now)" -gt $((begin_ms + timeout * 1000)) ]; then
      timed_out=yes
      return 0
    fi
  done
}

# What the kernel says when it is broken.  The script's own lines begin with
# "| ", the kernel's with their time.
broken='\[ *[0-9]+\.[0-9]+\] .*(Kernel panic|BUG: |Oops: |Oops\[|'
broken+='general protection fault|blocked for more than|soft lockup|'
broken+='rcu.*detected stall|hard LOCKUP)'

why_failed ()
{
  local found
  found=$(grep -aE "$broken" "$work/console" | grep -av '^| ' | head -n 1 |
    tr -d '\r')
  if [ -n "$found" ]; then
    status=125
    echo "the guest's kernel failed: $found"
  elif [ $timed_out = yes ]; then
    status=124
    echo "the guest was not done after $timeout s"
  elif [ -z "$status" ] && [ -n "$cut" ] && [ -e "$cut" ]; then
    status=3
  elif [ -z "$status" ]; then
    status=125
    echo "the guest ended before its script did"
  elif [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
    echo "the script failed with status $status"
  fi
}

status='' started_ms='' timed_out=no
make_archives
for port in ${ports[@]+"${ports[@]}"}; do
  (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null ||
    guest_fail "run-guest: nothing listens on 127.0.0.1:$port"
done
begin_ms=$(guest_now)
start_qemu
listen
kill -KILL "$qemu_pid" 2> /dev/null
wait "$qemu_pid" 2> /dev/null
qemu_pid=''
touch "$work/console"
end_ms=$(guest_now)

why_failed > "$work/reason"
reason=$(< "$work/reason")
tr -d '\r' < "$work/console" | grep -a '^| ' >&2
printf 'guest: %s: %s s, of these boot %s s\n' "${script##*/}" \
  "$(guest_seconds $((end_ms - begin_ms)))" \
  "$(guest_seconds $((${started_ms:-$end_ms} - begin_ms)))" >&2
if [ -n "$reason" ]; then
  name=$(basename "$script" .sh)
  log=$(mktemp "${GUEST_LOGDIR:-.}/console-$name.XXXXXX.log") || exit 1
  cat "$work/qemu" "$work/console" > "$log"
  {
    echo "guest: $reason; the console's last 60 lines:"
    tail -n 60 "$log" | tr -d '\r'
    echo "guest: $reason; the whole console is in $log"
  } >&2
fi
printf 'GUEST-EXIT %s\n' "$status"
exit "$status"
