#!/bin/busybox sh
# The first process of the guest: runs the server and tune, and prints what the kernel says of them.
#
# `@say KEY TEXT` is something that was seen; `@serve NAME` asks for connections from outside, and
# `@served NAME` lets them go; `@end` is the end.

/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /var/lib /srv
echo hello > /srv/index.html
ifconfig lo 127.0.0.1 up
ulimit -n 16384
. /parameters
for module in failover net_failover virtio_net; do
    insmod /modules/$module.ko
done
ifconfig eth0 10.77.0.2 netmask 255.255.255.0 up

say() { echo "@say $*"; }

# The processors that take each queue's interrupt, and those that send by it.
queues() {
    for queue in 0 1 2 3; do
        number=$(grep "virtio[0-9]*-input.$queue\$" /proc/interrupts | cut -d: -f1 | tr -d ' ')
        printf '%s/%s ' "$(cat /proc/irq/$number/smp_affinity_list)" \
            "$(cat /sys/class/net/eth0/queues/tx-$queue/xps_cpus)"
    done
}

status() { wget -q -O - http://127.0.0.1:9090/status 2>/dev/null | tr -d '\n'; }

start() {
    "$program" serve /srv --listen 0.0.0.0:8080 --admin 127.0.0.1:9090 "$@" > /tmp/output 2>&1 &
    server=$!
    for turn in $(seq 100); do
        [ -n "$(status)" ] && return
        sleep 1
    done
    say trouble "the server doesn't start: $(tail -n 3 /tmp/output | tr '\n' ' ')"
}

stop() {
    kill "$server"
    wait "$server"
}

# Serves connections from outside, and says what became of them.
phase() {
    name=$1
    shift
    start "$@"
    echo "@serve $name"
    for turn in $(seq 120); do
        arrived=$(status | tr ',{}' '\n\n\n' | grep -E '"(own|other)":' | cut -d: -f2 | awk '{ sum += $1 } END { print sum + 0 }')
        [ "$arrived" -ge "$connections" ] && break
        sleep 1
    done
    say "$name.status" "$(status)"
    [ "$name" = steered ] && say "$name.maps" "$(grep 'bind=static' /proc/$server/numa_maps | tr '\n' ';')"
    echo "@served $name"
    stop
}

say nodes "$(cat /sys/devices/system/node/online)"
say receivers "$(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)"

phase steered
phase hashed --steer off

# All packets to one processor: steering would starve the others, and isn't done by itself.
for queue in 0 1 2 3; do echo 1 > /sys/class/net/eth0/queues/rx-$queue/rps_cpus; done
start
say spread.status "$(status)"
stop
for queue in 0 1 2 3; do echo 0 > /sys/class/net/eth0/queues/rx-$queue/rps_cpus; done

# Huge pages reserved on the first node alone.
reserved=/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
echo 8 > $reserved
say huge.reserved "$(cat $reserved)"
start --huge-pages reserved
say huge.status "$(status)"
stop
echo 0 > $reserved

# The second node full but for some: what is bound to a full node ends a process, so nothing is.
left() {
    awk '/ (MemFree|Active\(file\)|Inactive\(file\)):/ { sum += $(NF - 1) } END { print sum }' \
        /sys/devices/system/node/node1/meminfo
}
mkdir /full
mount -t tmpfs -o mpol=bind:1,size=100% none /full
part=0
while [ "$(left)" -gt 61440 ] && [ $part -lt 64 ]; do
    part=$((part + 1))
    dd if=/dev/zero of=/full/$part bs=1M count=8 2> /dev/null
done
say full.left "$(left)"
start
say full.status "$(status)"
stop
umount /full

# Interrupts where they shouldn't be, which tune puts right and back.
for number in $(grep -- '-\(input\|output\)' /proc/interrupts | cut -d: -f1); do
    echo 0 > /proc/irq/"$number"/smp_affinity_list
done
say tune.before "$(queues)"
"$program" tune --apply > /tmp/tune 2>&1
say tune.code "$?"
say tune.applied "$(queues)"
"$program" tune --verify > /tmp/verify 2>&1
say tune.verified "$?"
"$program" tune --revert > /tmp/revert 2>&1
say tune.revert.code "$?"
say tune.reverted "$(queues)"

# A processor goes: it gets no worker.
echo 0 > /sys/devices/system/cpu/cpu3/online
say offline.placement "$("$program" doctor 2>/dev/null | grep '^Placement')"
start
say offline.status "$(status)"
stop
echo 1 > /sys/devices/system/cpu/cpu3/online

echo "@end"
poweroff -f
