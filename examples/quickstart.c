/* A first program with larder: the machine's package database in a cache.
 *
 *   quickstart load    SOCKET FILE            stores every record of FILE
 *   quickstart compare SOCKET FILE            gets every one and compares all its bytes with FILE
 *   quickstart read    SOCKET FILE SECONDS    the same, over and over
 *   quickstart write   SOCKET FILE SECONDS    stores them over and over
 *
 * FILE is in the format of /var/lib/dpkg/status: records with an empty line between them. The key of a record is its package's name, or name:architecture
 * if there are several of that name; the value is the record, byte for byte. Each run is a process of its own; they meet only in larder.
 *
 *   cc quickstart.c $(pkg-config --cflags --libs larder)
 */
#include <larder.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct record {
    char key[256];
    const char *value;
    size_t size;
};

static struct record *records;
static size_t n_records;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "quickstart: %s: %s\n", what, why);
    exit(1);
}

/* ---- what is to be cached ---- */

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0)
        die(path, "cannot be read");
    long size = ftell(f);
    char *text = size < 0 ? NULL : calloc((size_t)size + 1, 1);
    rewind(f);
    if (text == NULL || fread(text, 1, (size_t)size, f) != (size_t)size)
        die(path, "cannot be read");
    fclose(f);
    return text;
}

/* Copies what follows "name: " at the beginning of a line of the record. */
static void take_field(const struct record *r, const char *name, char *out, size_t room)
{
    const char *line = r->value, *end = r->value + r->size;
    *out = '\0';
    while (line < end && strncmp(line, name, strlen(name)) != 0) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        line = next ? next + 1 : end;
    }
    if (line < end)
        snprintf(out, room, "%.*s", (int)strcspn(line + strlen(name), "\n"), line + strlen(name));
}

static int by_key(const void *x, const void *y)
{
    const struct record *a = x, *b = y;
    return strcmp(a->key, b->key);
}

/* Names that occur more than once get their architecture. */
static void name_records(void)
{
    for (size_t i = 0; i < n_records; i++)
        take_field(&records[i], "Package: ", records[i].key, sizeof records[i].key);
    qsort(records, n_records, sizeof *records, by_key);
    for (size_t i = 0, next; i < n_records; i = next) {
        for (next = i + 1; next < n_records && strcmp(records[next].key, records[i].key) == 0;)
            next++;
        for (size_t j = i; next > i + 1 && j < next; j++) {
            size_t used = strlen(records[j].key);
            records[j].key[used++] = ':';
            take_field(&records[j], "Architecture: ", records[j].key + used, sizeof records[j].key - used);
        }
    }
}

static void read_records(const char *path)
{
    size_t room = 0;
    for (char *text = read_file(path); *text != '\0';) {
        char *end = strstr(text, "\n\n");
        size_t size = end ? (size_t)(end - text) + 1 : strlen(text);
        if (n_records == room) {
            room = room ? room * 2 : 1024;
            records = realloc(records, room * sizeof *records);
            if (records == NULL)
                die(path, "no memory for so many records");
        }
        records[n_records++] = (struct record){.value = text, .size = size};
        text += size + (end != NULL);
    }
    name_records();
}

/* ---- the cache ---- */

static void store(struct larder_ns *ns, const struct record *r)
{
    int result = larder_set(ns, r->key, strlen(r->key), r->value, r->size, NULL, NULL);
    while (result == LARDER_BUSY) /* faster than the daemon applies: its ring is full */
        result = larder_set(ns, r->key, strlen(r->key), r->value, r->size, NULL, NULL);
    if (result != LARDER_OK)
        die(r->key, larder_strerror(result));
}

static void compare(struct larder_ns *ns, const struct record *r, char *buffer, size_t capacity)
{
    size_t size;
    int result = larder_get(ns, r->key, strlen(r->key), buffer, capacity, &size);
    if (result != LARDER_OK)
        die(r->key, larder_strerror(result));
    if (size != r->size || memcmp(buffer, r->value, size) != 0)
        die(r->key, "the cache has other bytes than the file");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "quickstart load|compare|read|write SOCKET FILE [SECONDS]");
    const char *verb = argv[1];
    const int writes = strcmp(verb, "load") == 0 || strcmp(verb, "write") == 0;
    const double seconds = argc > 4 ? atof(argv[4]) : 0; /* 0: once through */
    read_records(argv[3]);

    struct larder *l;
    struct larder_options options = {.size = sizeof options, .socket = argv[2]};
    int result = larder_open(&l, &options);
    if (result != LARDER_OK)
        die(argv[2], larder_strerror(result));
    struct larder_ns *ns = larder_default(l);
    size_t capacity = larder_item_max(l);
    char *buffer = malloc(capacity);
    if (buffer == NULL)
        die(argv[0], "no memory");

    double start = now(), took;
    unsigned long n = 0, bytes = 0;
    do {
        for (size_t i = 0; i < n_records; i++) {
            if (writes)
                store(ns, &records[i]);
            else
                compare(ns, &records[i], buffer, capacity);
            bytes += records[i].size;
        }
        n += n_records;
        took = now() - start;
    } while (took < seconds);

    /* Acknowledged is not yet visible to others; this waits until it is. */
    if (writes && (result = larder_flush(l, 10000)) != LARDER_OK)
        die(argv[2], larder_strerror(result));
    printf("  process %ld: %lu %s, %lu bytes%s; %.0f a second\n", (long)getpid(), n, writes ? "sets" : "gets", bytes,
           writes ? "" : ", every one as in the file", (double)n / took);
    larder_close(l);
    free(buffer);
    return 0;
}
