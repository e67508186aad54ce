#!/usr/bin/env bats
# check: silent about what is good, also while others write; finds what is wrong.
# shellcheck disable=SC2030,SC2031 # bats sets output
load helpers

teardown() { stop_daemon; }

# lines FROM TO SIZE
lines() { awk -v from="$1" -v to="$2" -v size="$3" 'BEGIN { for (i = from; i <= to; i++) { v = sprintf("%*d", 1 + i * 7919 % size, i); printf "key %d\t%d\t-\t%s\n", i, i, v } }'; }

@test "after overwrites, deletes and evictions" {
    start_daemon --memory 16M --average-item 100
    lines 1 150000 200 | ctl load
    lines 100000 150000 90 | ctl load
    for i in 149990 149991 149992; do ctl delete "key $i"; done
    [ "$(figure counters.evicted)" -gt 0 ]
    [ "$(figure counters.overwrites)" -gt 0 ]
    status_of 0 ctl check
    [[ ${lines[0]} == "0 findings; "* ]]
}

@test "while others write" {
    start_daemon --memory 16M --average-item 60
    for n in 1 2; do
        (for round in 1 2 3; do lines $((n * 10000)) $((n * 10000 + 90000)) $((40 + round * 10)) | ctl load; done) >/dev/null 3>&- &
        writers[n]=$!
    done
    for round in 1 2 3 4 5; do
        status_of 0 ctl check
    done
    wait "${writers[@]}"
    status_of 0 ctl check
    [[ $output == *"with the writer at rest"* ]]
}

@test "namespaces that are filled, reset and reclaimed at once" {
    start_daemon --memory 16M --average-item 100
    ctl create small,max=1M
    ctl create first,policy=fifo,min=2M,max=4M
    ctl create timed,reset-every=30ms
    ctl create kept,policy=refuse,min=2M
    for ns in default small first timed; do
        (for round in 1 2 3; do lines 1 30000 $((100 + round * 10)) | ctl load -n $ns; done) >/dev/null 3>&- &
        writers[${#writers[@]}]=$!
    done
    ctl create brief,max=4M
    (for round in 1 2 3; do lines 1 30000 100 | sed "s/\t-\t/\t30\t/" | ctl load -n brief; done) >/dev/null 3>&- &
    writers[${#writers[@]}]=$!
    lines 1 5000 100 | ctl load -n kept
    for round in 1 2 3 4; do
        status_of 0 ctl check
        ctl reset small
        ctl mem --no-measure >/dev/null
    done
    wait "${writers[@]}"
    status_of 0 ctl check
    ctl namespaces -o json >"$DIR/json"
    jq -e 'all(.namespaces[]; .blocks <= .max_blocks)' "$DIR/json"
    jq -e '.namespaces[] | select(.name == "kept") | .live_items == 5000 and .evicted == 0 and .no_room == 0' "$DIR/json"
    jq -e '.namespaces[] | select(.name == "brief") | .expired > 0' "$DIR/json"
    jq -e '.namespaces[] | select(.name == "timed") | .resets > 3' "$DIR/json"
    jq -e '.namespaces[] | select(.name == "small") | .resets == 4 and .reset_items > 0' "$DIR/json"
}

@test "a good segment without a daemon" {
    start_damaged none
    status_of 0 ctl check
    [[ $output == "0 findings; "* ]]
    ctl dump >"$DIR/dump"
    [ "$(tail -n 1 "$DIR/dump")" = "#end $(grep -vc '^#' "$DIR/dump")" ]
}

# finds KIND PATTERN
finds() {
    start_damaged "$1"
    status_of 2 ctl check
    # shellcheck disable=SC2053 # a pattern it is
    [[ $output == $2 ]]
}

@test "finds a key that was changed" { finds key_changed '*does not belong here*'; }
@test "finds a length that cannot be" { finds length_changed '*points to something that is no item*'; }
@test "finds a location outside the arena" { finds location_outside '*points to something that is no item*'; }
@test "finds a displaced word that is too low" { finds word_low '*a get of its key does not find it*displaced word is*counted*'; }
@test "finds a displaced word that is too high" { finds word_high '*displaced word is*counted*'; }
@test "finds a key that is there twice" { finds duplicate '*a get of its key finds another slot*'; }
@test "finds live bytes that are wrong" { finds live_off 'block 3: says*counted*'; }
@test "finds items beyond what was written" { finds used_low '*of which 64 bytes are written*'; }
@test "finds an unknown block state" { finds state_unknown 'block 2: its descriptor makes no sense*'; }
@test "finds an item of another namespace" { finds namespace_changed '*its item is of namespace 1*'; }
@test "finds a counter of slots that is wrong" { finds slots_off 'table: slots_used says*counted*'; }
@test "finds counters that do not add up" { finds sets_off 'counters: *should be left*'; }

@test "finds an owner that is no namespace" { finds owner_nobody '*its owner is no namespace*'; }
@test "finds an owner that is not live" { finds owner_not_live '*its owner is no namespace*'; }
@test "finds a chain that is none" { finds owner_chain '*its owner is no namespace, or no chain*'; }
@test "finds padding that is wrong" { finds padding_off '*of padding, counted*'; }
@test "finds two open blocks in a chain" { finds two_open 'namespace default: * blocks are open in chain 0*'; }
@test "finds what one namespace counted too much and another too little" { finds namespaces_off 'namespace default (0): * items should be left*namespace second (1): *'; }
@test "finds the same of blocks" { finds namespace_blocks_off 'namespace default (0): * were opened and not freed*namespace second (1): *'; }
@test "finds what a namespace counts and has not" { finds counted_elsewhere 'namespace second (1): counts 1 of batches*'; }
@test "finds a namespace above its maximum" { finds maximum_low 'namespace default (0): has * blocks, at most 2 *'; }
@test "finds minimums that do not fit" { finds minimums_high 'namespaces: the minimums are 7 blocks together, 6 can be promised*'; }
@test "finds an unknown policy" { finds policy_unknown 'namespace second (1): an unknown policy*'; }
@test "finds an account that does not fit" { finds account_unfit 'namespace second (1): an account*'; }
@test "finds a name that is there twice" { finds name_twice 'namespace default (1): a name that another one has*'; }
@test "finds credit that was not granted" { finds credit_over 'lane 1: used credit for 1001 bytes of account 2, was granted 1000*'; }

@test "namespaces, credit and a reset are no findings" {
    for kind in peopled was_reset departed measured; do
        start_damaged $kind
        status_of 0 ctl check
        stop_daemon
    done
}

@test "half a change is not called a fault" {
    start_damaged half_a_change
    status_of 1 ctl check
    [[ $output == *"in the middle of a change of 3 words"* ]]
}

@test "dump goes on where slots make no sense, and says so" {
    start_damaged location_outside
    status_of 2 ctl dump
    [[ $output == *"1 slots make no sense"* ]]
}

@test "nothing in a segment makes larderctl fall" {
    for seed in 1 2 3; do
        LARDER_SEED=$seed start_damaged scribbled
        for verb in check stat "stat -o json" "stat -n default" dump "dump $DIR/dump" "inspect -x 6b65792037393030" "get -x 6b65792037393030" "why -x 6b65792037393030" \
            "why -o json -x 6b65792037393030" namespaces "namespaces -o json" "mem --no-measure" "mem --no-measure -o json"; do
            # shellcheck disable=SC2086
            run ctl $verb
            [ "$status" -le 2 ]
        done
        stop_daemon
    done
}

@test "a segment that is none is refused" {
    start_damaged not_ready
    status_of 2 ctl stat
    [[ $output == *"not ready"* ]]
}

@test "parts outside the segment are refused" {
    start_damaged parts_outside
    for verb in stat check dump namespaces mem "why a" "get a" "inspect a"; do
        # shellcheck disable=SC2086
        status_of 2 ctl $verb
        [[ $output == *"damaged"* ]]
    done
}
