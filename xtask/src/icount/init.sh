#!/bin/busybox sh
# The first process of the guest: measures each contestant and powers off.
#
# For every run it prints `@count NAME NANOSECONDS REQUESTS`, where a nanosecond is an instruction;
# `@trouble NAME TEXT` for what wrk complains about; and `@end` when it got through.

/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/usr/local/bin HOME=/tmp
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
ifconfig lo 127.0.0.1 up
echo cubic > /proc/sys/net/ipv4/tcp_congestion_control
ulimit -n 65536
ulimit -l unlimited
. /parameters

# A process and all its descendants, one number each.
descendants() {
    echo "$1"
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        descendants "$child"
    done
}

# The run time of all their threads, the kernel's workers for their rings included.
run_time() {
    for process in $(descendants "$1"); do
        cat /proc/"$process"/task/*/schedstat 2>/dev/null
    done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

load() {
    wrk -t 1 -c "$connections" -d "${seconds}s" "http://127.0.0.1:$1/$2" > /tmp/load 2>&1
}

# The first requests fill caches and make the server grow to what the load needs: some thousands of them.
warm_up() {
    wrk -t 1 -c "$connections" -d 1s "http://127.0.0.1:$1/$2" > /dev/null 2>&1 &
    warming=$!
    sleep 0.2
    kill $warming
    wait $warming 2>/dev/null
}

# The server that proxies ask, which nobody counts.
upstream() {
    "$@" > /tmp/upstream 2>&1 &
    sleep 1
}

contestant() {
    name=$1 port=$2 path=$3
    shift 3
    "$@" > /tmp/output 2>&1 &
    server=$!
    sleep 1
    warm_up "$port" "$path"
    for turn in $(seq "$repeats"); do
        before=$(run_time $server)
        load "$port" "$path"
        after=$(run_time $server)
        requests=$(awk '/ requests in / { print $1 }' /tmp/load)
        if [ "${requests:-0}" -eq 0 ]; then
            echo "@trouble $name no request was answered: $(tail -n 1 /tmp/load) $(tail -n 2 /tmp/output | tr '\n' ' ')"
            break
        fi
        echo "@count $name $((after - before)) $requests"
        grep -E 'Socket errors|Non-2xx' /tmp/load | while read -r words; do
            echo "@trouble $name $words"
        done
    done
    members=$(descendants $server)
    kill $server 2>/dev/null
    sleep 1
    kill -9 $members 2>/dev/null
    wait $server 2>/dev/null
}

. /contestants
echo @end
poweroff -f
