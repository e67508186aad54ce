/* Makes one call of the library again and again, for a tool that counts instructions: count_calls SOCKET get|get_many|set|set_many|revisit CALLS [NAMESPACE]. Keys
 * have 16 bytes, values 256. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/larder.h"

#define ITEMS 1000u
#define KEY 16u
#define VALUE 256u
#define BATCH 32u

static void make_key(char key[KEY], uint64_t i)
{
    char text[KEY + 5];
    snprintf(text, sizeof text, "k%015u", (unsigned)(i % ITEMS));
    memcpy(key, text, KEY);
}

static int fill(struct larder *l, struct larder_ns *ns)
{
    char key[KEY], value[VALUE];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < ITEMS; i++) {
        make_key(key, i);
        if (larder_set(ns, key, KEY, value, VALUE, NULL, NULL) != 0)
            return -1;
    }
    return larder_flush(l, 10000);
}

static int count_gets(struct larder_ns *ns, uint64_t calls)
{
    char key[KEY], value[VALUE];
    size_t size;
    for (uint64_t i = 0; i < calls; i++) {
        make_key(key, i);
        if (larder_get(ns, key, KEY, value, sizeof value, &size) != 0)
            return -1;
    }
    return 0;
}

static int count_batches(struct larder_ns *ns, uint64_t calls)
{
    static char key[BATCH][KEY], value[BATCH][VALUE];
    struct larder_key keys[BATCH];
    struct larder_item items[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        keys[i] = (struct larder_key){.size = sizeof keys[i], .data = key[i], .data_size = KEY};
        items[i] = (struct larder_item){.size = sizeof items[i], .buffer = value[i], .capacity = VALUE};
    }
    for (uint64_t n = 0; n < calls; n += BATCH) {
        size_t hits;
        for (unsigned i = 0; i < BATCH; i++)
            make_key(key[i], n + i);
        if (larder_get_many(ns, keys, items, BATCH, &hits) != 0 || hits != BATCH)
            return -1;
    }
    return 0;
}

static int count_revisits(struct larder_ns *ns, uint64_t calls)
{
    char key[KEY], value[VALUE];
    struct larder_hold hold = {.size = sizeof hold};
    make_key(key, 1);
    if (larder_get_hold(ns, key, KEY, value, sizeof value, NULL, &hold) != 0)
        return -1;
    for (uint64_t i = 0; i < calls; i++)
        if (larder_revisit(ns, &hold) != 0)
            return -1;
    return 0;
}

/* A ring's worth at a time, so that no call has to wait for room. */
static int count_sets(struct larder *l, struct larder_ns *ns, uint64_t calls)
{
    char key[KEY], value[VALUE];
    memset(value, 'w', sizeof value);
    for (uint64_t i = 0; i < calls; i++) {
        make_key(key, i);
        if (larder_set(ns, key, KEY, value, VALUE, NULL, NULL) != 0 || (i % 256 == 255 && larder_flush(l, 10000) != 0))
            return -1;
    }
    return 0;
}

static int count_set_batches(struct larder *l, struct larder_ns *ns, uint64_t calls)
{
    static char key[BATCH][KEY], value[VALUE];
    struct larder_write writes[BATCH];
    memset(value, 'w', sizeof value);
    for (unsigned i = 0; i < BATCH; i++)
        writes[i] = (struct larder_write){.size = sizeof writes[i], .key = key[i], .key_size = KEY, .value = value, .value_size = VALUE};
    for (uint64_t n = 0; n < calls; n += BATCH) {
        for (unsigned i = 0; i < BATCH; i++)
            make_key(key[i], n + i);
        if (larder_set_many(ns, writes, BATCH, NULL) != 0 || (n % 256 == 224 && larder_flush(l, 10000) != 0))
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct larder *l;
    if (argc != 4 && argc != 5)
        return 64;
    struct larder_options options = {.size = sizeof options, .socket = argv[1], .open_timeout_ms = 5000, .busy_timeout_ms = 10000};
    int r = larder_open(&l, &options);
    if (r != 0) {
        fprintf(stderr, "count_calls: %s: %s\n", argv[1], larder_strerror(r));
        return 1;
    }
    struct larder_ns *ns = larder_default(l);
    uint64_t calls = strtoull(argv[3], NULL, 10);
    if (argc == 5 && (r = larder_ns_open(l, argv[4], &ns)) != 0) {
        fprintf(stderr, "count_calls: %s: %s\n", argv[4], larder_strerror(r));
        return 1;
    }
    r = fill(l, ns);
    if (r == 0 && strcmp(argv[2], "get") == 0)
        r = count_gets(ns, calls);
    else if (r == 0 && strcmp(argv[2], "get_many") == 0)
        r = count_batches(ns, calls);
    else if (r == 0 && strcmp(argv[2], "set") == 0)
        r = count_sets(l, ns, calls);
    else if (r == 0 && strcmp(argv[2], "set_many") == 0)
        r = count_set_batches(l, ns, calls);
    else if (r == 0 && strcmp(argv[2], "revisit") == 0)
        r = count_revisits(ns, calls);
    larder_close(l);
    return r == 0 ? 0 : 1;
}
