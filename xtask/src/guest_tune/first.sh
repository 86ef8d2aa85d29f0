# The first start: doing, verifying, undoing; a processor that goes; a kill; and what is kept.

ulimit -n 65536

# What the machine is, by an independent look.
same "the device is on node 1" "$(cat /sys/class/net/"$nic"/device/../numa_node)" 1
same "four queues receive" "$(ls -d $queues/rx-* | wc -l)" 4

# As a neglected machine has it.
echo 128 > /proc/sys/net/core/somaxconn
echo 3 > $queues/rx-1/rps_cpus
echo 0-3 > "/proc/irq/$(number_of virtio0-input.1)/smp_affinity_list"
snapshot > /tmp/before

show doctor $intent
show tune $intent
ringway_ends "doctor" 1 doctor --details $intent
said "the doctor puts memory on both nodes" "numa.policy .*a page went to each of 2 nodes"
said "the doctor sees the queues" "nic.channels: 4 of 4 queues in use, for 2 workers"
ringway_ends "a plan" 0 tune $intent
is_as "a plan changes nothing" /tmp/before

# Without leave: all but the number of queues.
ringway_ends "apply" 0 tune --apply $intent
same "queue 0 interrupts the first worker" "$(affinity virtio0-input.0)" 2
same "queue 1 interrupts the second" "$(affinity virtio0-input.1)" 3
same "RPS is off" "$(cat $queues/rx-1/rps_cpus)" 0
same "XPS of queue 0" "$(cat $queues/tx-0/xps_cpus)" 5
same "XPS of queue 1" "$(cat $queues/tx-1/xps_cpus)" a
same "the backlog is raised" "$(cat /proc/sys/net/core/somaxconn)" 4096
same "numa_balancing is off" "$(cat /proc/sys/kernel/numa_balancing)" 0
ringway_ends "verify" 0 tune --verify
ringway_ends "a second plan" 0 tune $intent
said "nothing is left to do" "nothing to change"
ringway_ends "revert" 0 tune --revert
is_as "reverted" /tmp/before

# With leave: two queues in place of four, and back.
show tune --apply --allow-disruption $intent
same "two queues receive" "$(ls -d $queues/rx-* | wc -l)" 2
ringway_ends "verify with two queues" 0 tune --verify
show tune --verify
ringway_ends "a plan with leave" 0 tune --allow-disruption $intent
said "nothing is left to do with leave" "nothing to change"
show tune --revert
is_as "reverted with its four queues" /tmp/before
ringway_ends "nothing is left to revert" 0 tune --revert
said "and that is said" "nothing to undo"

# One queue for two workers: software hands packets on, to these two alone, and flows stay where they
# are read.
ringway_ends "apply for one worker" 0 tune --apply --allow-disruption --workers 1 $intent
same "one queue receives" "$(ls -d $queues/rx-* | wc -l)" 1
snapshot > /tmp/one
ringway_ends "doctor with one queue for two workers" 1 doctor --details --workers 2 $intent
said "the doctor misses RPS" "advice  rps.needed .*1 queue for 2 workers, 0 with RPS"
ringway_ends "apply with one queue for two workers" 0 tune --apply --workers 2 $intent
id=$(sed -n 's/^journal \([^;]*\);.*/\1/p' /tmp/said)
same "RPS hands on to both workers" "$(cat $queues/rx-0/rps_cpus)" c
same "RFS remembers flows" "$(cat /proc/sys/net/core/rps_sock_flow_entries)" 32768
same "and so does the queue" "$(cat $queues/rx-0/rps_flow_cnt)" 32768
ringway_ends "verify RPS" 0 tune --verify
ringway_ends "a plan with RPS" 0 tune --workers 2 $intent
said "nothing is left to do with RPS" "nothing to change"
ringway_ends "revert RPS by its journal" 0 tune --revert "$id"
is_as "reverted to one queue" /tmp/one
ringway_ends "revert one queue" 0 tune --revert
is_as "reverted from one queue" /tmp/before

# A processor goes: the driver spreads everything anew, which is not ours to overwrite.
ringway_ends "apply before a processor goes" 0 tune --apply $intent
echo 0 > /sys/devices/system/cpu/cpu3/online
ringway_ends "verify without it" 1 tune --verify
said "the drift is told" "changed by somebody else"
ringway_ends "doctor without it" 1 doctor --details $intent
said "and the doctor sees it" "offline: 3"
ringway_ends "apply without it" 0 tune --apply $intent
echo 1 > /sys/devices/system/cpu/cpu3/online
ringway tune --revert > /tmp/said 2>&1
ringway_ends "revert by force" 0 tune --revert --force
# What the driver made of the queues when the processor came back is nobody's loss: it is put right.
is_as "reverted after a processor went and came" /tmp/before

# A kill while it is applied, at ten moments.
for turn in 1 2 3 4 5 6 7 8 9 10; do
    ringway tune --apply --allow-disruption $intent > /dev/null 2>&1 &
    usleep $((turn * 150000))
    kill -9 $! 2> /dev/null
    wait $! 2> /dev/null
    ringway tune --revert > /tmp/said 2>&1 || said "revert after kill $turn" "nothing to undo"
done
is_as "reverted after ten kills" /tmp/before

# What the next start finds: a journal of this run, and what was asked to be kept.
ringway_ends "apply before the restart" 0 tune --apply $intent
ringway_ends "persist" 0 tune --persist $intent
for file in /var/lib/ringway/tune/*.jsonl /etc/sysctl.d/90-ringway.conf /etc/systemd/system/ringway-tune.service; do
    sed "s|^|@keep $file :|" "$file"
done
same "the unit is enabled" "$(readlink /etc/systemd/system/multi-user.target.wants/ringway-tune.service)" \
    ../ringway-tune.service
