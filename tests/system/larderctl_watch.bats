#!/usr/bin/env bats
# watch: what changes is told as it does, as text and as JSON; what has no feed is one line.
# shellcheck disable=SC2030,SC2031,SC2016 # bats sets output; evaluated later
load helpers

teardown() { stop_daemon; }

both_are_there() { [ "$(ctl stat -o json | jq ".lanes | length")" -ge 2 ]; }

@test "events as lines and as JSON" {
    start_daemon --memory 16M --namespace fed,feed=64
    timeout 20 "$LARDER_BUILD/larderctl" --socket "$SOCKET" watch -n fed -N 3 >"$BATS_TEST_TMPDIR/text" &
    text=$!
    timeout 20 "$LARDER_BUILD/larderctl" --socket "$SOCKET" watch -n fed -N 3 -o json >"$BATS_TEST_TMPDIR/json" &
    json=$!
    wait_until 10 both_are_there
    sleep 0.3 # attached is not yet watching
    ctl set -n fed $'a\t"' v
    ctl delete -n fed $'a\t"'
    ctl reset fed
    wait "$text"
    wait "$json"
    cut -f 2,3 "$BATS_TEST_TMPDIR/text"
    [ "$(cut -f 2,3 "$BATS_TEST_TMPDIR/text")" = $'set\ta\\t"\ndelete\ta\\t"\nreset\t-' ]
    [ "$(jq -r .event "$BATS_TEST_TMPDIR/json" | tr '\n' ' ')" = "set delete reset " ]
    [ "$(jq -r 'select(.event == "set") | .key' "$BATS_TEST_TMPDIR/json")" = $'a\t"' ]
    status_of 2 ctl watch
    [[ $output == *"has no change feed"* ]]
    status_of 64 ctl watch -N 0
    ctl namespaces -o json | jq -e '.namespaces[] | select(.name == "fed") | .feed_entries == 64 and .feed_events == 3'
    ctl check
}
