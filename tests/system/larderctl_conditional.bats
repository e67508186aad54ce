#!/usr/bin/env bats
# add, replace, cas, append, prepend, touch, incr, decr: what they do, and what they say when they do not.
load helpers

setup() { start_daemon --memory 64M; }
teardown() { stop_daemon; }

# item KEY FIELD: version, flags, size or ttl, as get --item has it
item() { ctl get --item "$1" | head -n 1 | grep -oP "(?<=$2 )\S+"; }

@test "add and replace look whether there is one" {
    status_of 1 ctl replace k one
    status_of 0 ctl add --flags 7 --ttl 1h k two
    status_of 1 ctl add k three
    [ "$(ctl get k)" = two ]
    [ "$(item k flags)" = 7 ]
    [ "$(item k size)" = 3 ]
    [ "$(item k ttl)" -gt 3500000 ]
    echo four | status_of 0 ctl replace k -
    [ "$(ctl get k)" = four ]
    [ "$(item k flags) $(item k ttl)" = '0 -' ]
}

@test "cas wants the version" {
    ctl set k one
    version=$(item k version)
    [[ $version == 0x* ]]
    status_of 0 ctl cas k "$version" two
    status_of 1 ctl cas k "$version" three
    [[ $output == *"another version"* ]]
    [ "$(ctl get k)" = two ]
    status_of 1 ctl cas nothing-there "$version" three
    for bad in 0 none -1 0x10000000000000000; do
        status_of 64 ctl cas -- k "$bad" three
        [[ $output == *"not a version"* ]]
    done
}

@test "append and prepend" {
    status_of 1 ctl append k x
    status_of 1 ctl prepend k x
    ctl set --flags 3 k middle
    ctl append k ' end'
    printf 'begin ' | ctl prepend k -
    [ "$(ctl get k)" = 'begin middle end' ]
    [ "$(item k flags)" = 3 ]
    max=$(figure segment.item_max_bytes)
    head -c $((max - 20)) /dev/zero >"$DIR/value"
    status_of 2 ctl append k - <"$DIR/value"
    [[ $output == *"at most $max"* ]]
}

@test "touch" {
    status_of 1 ctl touch -t 1h k
    ctl set k v
    ctl touch -t 1h k
    [ "$(item k ttl)" -gt 3500000 ]
    ctl touch -t none k
    [ "$(item k ttl)" = - ]
}

@test "incr and decr write the number" {
    status_of 1 ctl incr n
    [ -z "$output" ]
    [ "$(ctl incr --create 10 n 5)" = 15 ]
    [ "$(ctl incr n)" = 16 ]
    [ "$(ctl decr n 20)" = -4 ]
    [ "$(ctl decr -- n -4)" = 0 ]
    [ "$(ctl decr -c -7 m 1)" = -8 ]
    ctl set n 9223372036854775807
    status_of 2 ctl incr n
    [[ $output == *9223372036854775807* ]]
    ctl set n four
    status_of 2 ctl decr n
    [[ $output == *"not a decimal number"* ]]
    status_of 64 ctl incr n four
    status_of 64 ctl decr -- n -9223372036854775808
    status_of 64 ctl incr -c 1x n
}
