#!/usr/bin/env bats
# keys: those of a namespace, by prefix and pattern, as lines and as JSON.
load helpers

setup() { start_daemon --memory 64M --namespace other; }
teardown() { stop_daemon; }

keys() { ctl keys "$@" | LC_ALL=C sort | tr '\n' ' '; }

@test "no keys" {
    status_of 0 ctl keys
    [ "$output" = "" ]
    status_of 0 ctl keys -o json
    [ "$output" = "[]" ]
}

@test "by prefix, pattern and namespace" {
    for key in user:1:name user:1:mail user:2:name visit '*'; do ctl set "$key" v; done
    ctl set -n other elsewhere v
    ctl set -t 20ms gone v
    sleep 0.1
    [ "$(keys)" = "* user:1:mail user:1:name user:2:name visit " ]
    [ "$(keys -p user:1)" = "user:1:mail user:1:name " ]
    [ "$(keys --match 'user:*:name')" = "user:1:name user:2:name " ]
    [ "$(keys --match 'user:[^2]*' -p user)" = "user:1:mail user:1:name " ]
    [ "$(keys --match '\*')" = "* " ]
    [ "$(keys -p none)" = "" ]
    [ "$(keys -n other)" = "elsewhere " ]
    ctl delete visit
    [ "$(keys -p v)" = "" ]
    status_of 64 ctl keys --match '['
    [[ $output == *"'[' is not a pattern"* ]]
    status_of 64 ctl keys argument
    status_of 2 ctl keys -n nowhere
}

@test "any bytes" {
    ctl set -x 0001ff0a 76
    ctl set -e '\x22tab\t' v
    [ "$(ctl keys -x -p 0001)" = '\0\x01\xff\n' ]
    [ "$(ctl keys --match '"*')" = '"tab\t' ]
    [ "$(ctl keys -o json --match '"*' | jq -r '.[0].key')" = '"tab\t' ]
    [ "$(ctl keys -o json | jq length)" = 2 ]
}

@test "JSON says what there is about each" {
    ctl set -f 7 -t 1h k value
    ctl set forever v
    ctl keys -o json | jq -e '.[] | select(.key == "k") | .key_bytes == 1 and .value_bytes == 5 and .flags == 7 and .ttl_left_ms > 3500000 and .ttl_left_ms <= 3600000'
    ctl keys -o json -p f | jq -e '.[0].ttl_left_ms == null'
}

@test "beside a worker that is stopped" {
    ctl set k v
    stop_worker
    status_of 0 ctl keys
    [ "$output" = k ]
    continue_worker
}
