#!/usr/bin/env bats
# why: what became of a key, from the item, its slot, the ring of departures, the namespace's resets.
# shellcheck disable=SC2030,SC2031,SC2016 # bats sets output; evaluated later
load helpers

teardown() { stop_daemon; }

# why KEY VERDICT SOURCE [OPTION...]: what it says as JSON, and the exit status that goes with it; SOURCE any: from wherever
why() {
    local expected=1
    [ "$2" != present ] || expected=0
    status_of "$expected" ctl why -o json "${@:4}" "$1"
    jq -e --arg verdict "$2" --arg source "$3" '.why.verdict == $verdict and ($source == "any" or .why.source == $source)' <<<"$output" || {
        echo "$output"
        return 1
    }
    JSON=$output
}
why_is() { jq -e "$1" <<<"$JSON"; }

@test "what stands in the ring" {
    start_damaged departed
    why expired expired ring
    why evicted evicted ring
    why_is '.why.ttl == "none" and .why.sure == "no"'
    why unread evicted_unread ring
    why_is '.why.ttl_left_ms == 50000 and .why.ago_ms >= 1600 and .why.ago_ms < 60000'
    why deleted deleted ring
    why crowded no_room ring
    why 'no such' unknown none
    why_is '.ring.entries == 30 and .ring.complete == "yes" and .ring.oldest_ago_ms >= 1900'
}

@test "the newest entry of a key counts" {
    start_damaged departed
    why twice evicted ring
    why_is '.why.ago_ms >= 1300 and .why.ago_ms < 61300'
}

@test "a line for the verdict, a line for the ring" {
    start_damaged departed
    status_of 1 ctl why unread
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[0]} == "evicted, unread as far as the marks tell, "*" ms ago ("*"); it had 50.0 s to live" ]]
    [[ ${lines[1]} == "the ring of departures has 30 entries and goes back "*", to the first" ]]
    status_of 1 ctl why 'no such'
    [[ ${lines[0]} == "never seen in namespace default, as far back as the ring goes" ]]
    status_of 1 ctl why expired
    [[ ${lines[0]} == "expired "* ]]
}

@test "a reset hides what was before it, not what came after" {
    start_damaged departed
    why before reset namespace -n second
    why after deleted ring -n second
    why 'no such' reset namespace -n second
    # other namespaces know nothing of it
    why before unknown none
    why foreign unknown none
}

@test "a ring that turned over says how far it reaches" {
    start_damaged departed_all
    why unread unknown none
    why_is '.ring.entries == 255 and .ring.complete == "no" and .ring.oldest_ago_ms < 1200'
    why 'more 0' expired ring
    # older than all the ring has
    why before unknown none -n second
    status_of 1 ctl why unread
    [[ ${lines[1]} != *"to the first"* ]]
}

@test "what expired may be noted late: the latest departure counts, and the ring goes back no further than is sure" {
    start_damaged departed_late
    why twice deleted ring
    why_is '.ring.complete == "no" and .ring.oldest_ago_ms >= 600 and .ring.oldest_ago_ms < 60600'
    why_is '.ring.oldest_ago_ms == .why.ago_ms'
    why 'no such' unknown none
    status_of 1 ctl why 'no such'
    [[ ${lines[0]} == "no trace of it in namespace default: never set, or gone before the ring begins" ]]
    status_of 1 ctl why -n second 'no such'
    [[ ${lines[0]} == "no trace of it in namespace second: never set, or gone before the ring begins, or gone with a reset, the last "*" ago ("*")" ]]
}

@test "what had expired when its block was evicted has expired" {
    start_damaged slot_late
    why slot expired slot
    why_is '.why.sure == "yes" and .why.ago_ms >= 1000'
    stop_daemon
    start_damaged slot_late_reused
    why slot expired ring
    why_is '.why.sure == "no" and .why.ago_ms >= 750'
    status_of 1 ctl why slot
    [[ ${lines[0]} == "expired at least "*" ago ("*")" ]]
}

@test "a slot whose block was freed" {
    start_damaged slot_freed
    why slot evicted slot
    why_is '.why.sure == "yes" and .why.ago_ms >= 700'
    stop_daemon
    start_damaged slot_reused
    why slot evicted slot
    why_is '.why.sure == "no"'
    stop_daemon
    start_damaged slot_of_other
    why slot unknown none
    stop_daemon
    start_damaged slot_elsewhere
    why slot unknown none
}

@test "slot and ring together: the later of two departures, the details of one" {
    start_damaged slot_and_ring
    why slot evicted_unread ring
    why_is '.why.ttl_left_ms == 60000 and .why.sure == "yes"'
    stop_daemon
    start_damaged slot_older
    why slot deleted ring
    why_is '.why.ago_ms < 60300'
}

@test "an item of before the reset that still lies there" {
    start_damaged was_reset
    why 'key 3' reset slot -n second
    why_is '.why.sure == "yes"'
    why 'key 33' reset namespace -n second
}

@test "present, and what has expired where it lies" {
    start_damaged slot_expired
    why long present item
    why_is '.why.ttl == "none"'
    why short present item
    why_is '.why.ttl_left_ms > 3500000'
    why late expired item
    why_is '.why.ago_ms >= 600 and .why.sure == "yes"'
    status_of 0 ctl why short
    [[ ${lines[0]} == "present, expires in 59 min "* ]]
}

@test "keys have their forms, and namespaces exist" {
    start_damaged departed
    why 65787069726564 expired ring -x
    why 'e\x78pired' expired ring -e
    status_of 64 ctl why ''
    status_of 2 ctl why -n third key
    [[ $output == "larderctl why: no namespace 'third' at "* ]]
    [ "${#lines[@]}" = 1 ]
}

@test "of a daemon: present, deleted, expired, evicted" {
    start_daemon --memory 16M --average-item 100
    ctl set key value
    why key present item
    ctl delete key
    why key deleted ring
    ctl set --ttl 50ms brief value
    sleep 0.1
    why brief expired any # its block may be freed already
    ctl set first value
    awk 'BEGIN { for (i = 0; i < 400000; i++) printf "key %d\t0\t-\t%080d\n", i, i }' | ctl load
    status_of 1 ctl why -o json first
    jq -e '.why.verdict | IN("evicted", "evicted_unread", "unknown")' <<<"$output"
    jq -e '.ring.entries > 0' <<<"$output"
    # what went last is in the ring, as evicted
    gone=$(for i in $(seq 200000 500 399999); do
        ctl why -o json "key $i" | jq -r .why.verdict
    done | sort | uniq -c)
    [[ $gone == *evicted* ]]
    [[ $gone == *present* ]]
    ctl check
}

# ctl has no verb for them.
lease_client() {
    "$LARDER_BUILD/tests/client_story" kinds "$SOCKET" 3>&- &
    LEASE_CLIENT=$!
    wait_until 10 is_leased
}
is_leased() { [ "$(ctl why -o json loading | jq -r .why.verdict)" = leased ]; }

@test "a note of absence and a lease are no values, and are named" {
    start_daemon --memory 16M
    lease_client
    why loading leased item
    why_is '.why.ttl_left_ms > 0 and .why.ttl_left_ms <= 10000'
    status_of 1 ctl why loading
    [[ ${lines[0]} == "not there yet: somebody has the lease to load it, for at most "* ]]
    why none absent item
    status_of 1 ctl why none
    [[ ${lines[0]} == "known to be absent: somebody has left a note that there is no value, which expires in "* ]]
    status_of 1 ctl inspect -o json none
    jq -e '.search.outcome == "known absent" and .item.kind == "absent"' <<<"$output"
    status_of 1 ctl inspect -o json loading
    jq -e '.search.outcome == "lease" and .item.kind == "lease"' <<<"$output"
    status_of 0 ctl inspect -o json soft
    jq -e '.search.outcome == "found" and .item.kind == "soft aligned" and .item.soft_ttl_left_ms <= 30000 and .item.soft_ttl_left_ms > 0' <<<"$output"
    why soft present item
    # a lease whose holder is gone says nothing
    kill -9 "$LEASE_CLIENT"
    wait "$LEASE_CLIENT" || true
    wait_until 10 forgotten
}
forgotten() { [ "$(ctl why -o json loading | jq -r .why.verdict)" = unknown ]; }
