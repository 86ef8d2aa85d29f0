#!/bin/busybox sh
# The first process of the guest. Prints `@ok WHAT` or `@failed WHAT: WHY` for each assertion,
# `@show LINE` for people, and `@keep PATH :LINE` for what is on disk at the next start.

/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp NO_COLOR=1
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
ifconfig lo 127.0.0.1 up
for module in failover net_failover virtio_net; do
    insmod /modules/$module.ko
done
nic=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
ip link set "$nic" up
queues=/sys/class/net/$nic/queues
intent="--role proxy --link wan --goal throughput --connections 10000"

# Asserts that two texts are the same.
same() {
    if [ "$2" = "$3" ]; then echo "@ok $1"; else echo "@failed $1: '$2' is not '$3'"; fi
}

# Runs `ringway` with the words after the first two, and asserts its exit code.
ringway_ends() {
    what=$1 code=$2
    shift 2
    ringway "$@" > /tmp/said 2>&1
    ended=$?
    same "$what: exit code" $ended "$code"
    if [ $ended != "$code" ]; then
        sed 's/^/@show /' /tmp/said
    fi
}

show() {
    echo "@show"
    echo "@show \$ ringway $*"
    ringway "$@" 2>&1 | sed 's/^/@show /'
}

# Asserts that the last run said this.
said() {
    if grep -q -- "$2" /tmp/said; then
        echo "@ok $1"
    else
        echo "@failed $1: nothing like '$2'"
        sed 's/^/@show /' /tmp/said
    fi
}

# The number of the interrupt that the driver calls so.
number_of() {
    sed -n "s/^ *\([0-9]*\):.* $1\$/\1/p" /proc/interrupts
}

affinity() {
    cat "/proc/irq/$(number_of "$1")/smp_affinity_list"
}

# Everything that tune could have touched: where interrupts may go, by name, what steers packets,
# the table of flows, and every parameter that can be read.
snapshot() {
    sed -n 's/^ *[0-9]*:.* \([^ ]*\)$/\1/p' /proc/interrupts | grep virtio | while read -r name; do
        echo "$name $(affinity "$name")"
    done
    for file in "$queues"/*/*_cpus "$queues"/*/rps_flow_cnt "$queues"/*/xps_rxqs; do
        echo "$file $(cat "$file" 2>&1)"
    done
    ringway doctor --json | sed -n '/"rss": {/,/}/p;/"channels": {/,/}$/p'
    find /proc/sys/net /proc/sys/kernel/numa_balancing -type f | sort | while read -r file; do
        echo "$file $(cat "$file" 2>&1)"
    done
    find /etc -type f -o -type l | sort
}

# Asserts that the machine is as the snapshot in a file says.
is_as() {
    snapshot > /tmp/now
    if cmp -s "$2" /tmp/now; then
        echo "@ok $1"
    else
        echo "@failed $1: $(diff "$2" /tmp/now | head -n 6 | tr '\n' '~')"
    fi
}
