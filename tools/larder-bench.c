/* larder-bench: the command line. */
#include "tools/bench.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/larder/default.sock"
#define WORKERS_MAX 256u
#define ITEMS 1000000u /* if neither the command line nor the mode says something else; so is the next */
#define VALUE 256u

/* ---- for all files ---- */

enum bench_status bench_error(enum bench_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("larder-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return status;
}

void *bench_alloc(size_t n, size_t bytes)
{
    size_t total;
    void *p = NULL;
    if (__builtin_mul_overflow(n, bytes, &total) || total > SIZE_MAX - LRD_LINE)
        p = NULL;
    else
        p = aligned_alloc(LRD_LINE, (total + LRD_LINE) & ~(size_t)(LRD_LINE - 1));
    if (!p)
        exit((int)bench_error(BENCH_FAILURE, "out of memory"));
    return memset(p, 0, total);
}

void *bench_share(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit((int)bench_error(BENCH_FAILURE, "out of memory"));
    return p;
}

void bench_unshare(void *p, size_t bytes) { munmap(p, bytes); }

/* ---- words of the command line ---- */

enum {
    OPT_SOCKET = 256, OPT_PROCESSES, OPT_THREADS, OPT_KEYS, OPT_VALUE, OPT_ITEMS, OPT_SECONDS, OPT_RATIO, OPT_BATCH, OPT_CLIENTS, OPT_SEED, OPT_CPU,
    OPT_SPEED, OPT_MEMORY, OPT_START, OPT_DAEMON, OPT_DAEMON_OPTION, OPT_VERIFY, OPT_NO_FILL, OPT_HELP, OPT_VERSION,
    OPT_FRACTION, OPT_BLOCKS, OPT_MIN_BLOCK, OPT_POLICY, OPT_UNIT, OPT_IDLE_LANES, OPT_CHECK_EXPIRY, OPT_RATE, OPT_GET_RATE
};

static const struct option words[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"processes", required_argument, NULL, OPT_PROCESSES},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"value", required_argument, NULL, OPT_VALUE},
    {"items", required_argument, NULL, OPT_ITEMS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"ratio", required_argument, NULL, OPT_RATIO},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"clients", required_argument, NULL, OPT_CLIENTS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"speed", required_argument, NULL, OPT_SPEED},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"start-daemon", no_argument, NULL, OPT_START},
    {"larderd", required_argument, NULL, OPT_DAEMON},
    {"larderd-option", required_argument, NULL, OPT_DAEMON_OPTION},
    {"output", required_argument, NULL, 'o'},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"no-fill", no_argument, NULL, OPT_NO_FILL},
    {"fraction", required_argument, NULL, OPT_FRACTION},
    {"blocks", required_argument, NULL, OPT_BLOCKS},
    {"min-block", required_argument, NULL, OPT_MIN_BLOCK},
    {"policy", required_argument, NULL, OPT_POLICY},
    {"unit", required_argument, NULL, OPT_UNIT},
    {"idle-lanes", required_argument, NULL, OPT_IDLE_LANES},
    {"check-expiry", no_argument, NULL, OPT_CHECK_EXPIRY},
    {"rate", required_argument, NULL, OPT_RATE},
    {"get-rate", required_argument, NULL, OPT_GET_RATE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static void help(void)
{
    puts("usage: larder-bench [options] MODE [FILE]\n\nmodes:");
    for (unsigned i = 0; bench_mode_at(i); i++)
        printf("  %-11s %s\n", bench_mode_at(i)->name, bench_mode_at(i)->help);
    puts("  all         every mode above replay, each figure beside its target\n"
         "\n"
         "options:\n"
         "  --socket PATH         the daemon's socket [$LARDER_SOCKET, else " DEFAULT_SOCKET "]\n"
         "  --start-daemon        start a private larderd of the right size, stop it afterwards\n"
         "  --larderd PATH        that larderd [the one beside this program]\n"
         "  --larderd-option OPT  an option for it, for example --larderd-option=--pages=small; may be repeated\n"
         "  --memory BYTES        its memory [what the mode needs]\n"
         "  --items N             items, with K, M or G for thousands [1M; leaderboard 400K, reset 10M]\n"
         "  --value BYTES         bytes of a value; keys have 16 [256; leaderboard 240, reset 8]\n"
         "  --keys DISTRIBUTION   uniform, or zipf:0.99 [uniform]\n"
         "  --seconds S           how long each mode measures [5]\n"
         "  --processes N         processes that measure [1]\n"
         "  --threads N           threads of each [1]\n"
         "  --ratio GETS:SETS     of mixed [95:5]\n"
         "  --batch N             keys of a batch of get-many [32]\n"
         "  --clients N           of idle [100]\n"
         "  --speed X             replay X times as fast as it was recorded; 0: as fast as it goes; auto: find out [0]\n"
         "  --fraction F          of the trace's footprint that the private daemon of replay has [room for all]\n"
         "  --blocks N            in that many blocks [64]\n"
         "  --min-block BYTES     of at least that size [16K]\n"
         "  --policy NAME         of the private daemon: evict or fifo\n"
         "  --check-expiry        replay fails if it gets an item that has expired; one process and thread\n"
         "  --unit N              requests that a worker of replay takes at a time [1; 32 if it is alone]\n"
         "  --idle-lanes N        attached besides, doing nothing: of replay and leaderboard [0]\n"
         "  --rate N              sets a second of leaderboard, messages of hunt; 0: as fast as it goes [40 MB; 500K]\n"
         "  --get-rate N          gets a second of leaderboard [100K]\n"
         "  --cpu N               pin to CPU N, further workers to the next ones; none: do not pin [the last]\n"
         "  --seed N              of the random keys [1]\n"
         "  --verify              look at every value that is read\n"
         "  --no-fill             the items are there already\n"
         "  -o, --output FORMAT   text or json [text]");
}

/* ---- values of options ---- */

/* A number with a suffix: K, M, G are powers of `unit`. */
static bool parse_count(const char *text, uint64_t unit, uint64_t low, uint64_t high, uint64_t *out)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long n = strtoull(text, &end, 10);
    const char *suffixes = "KMG", *suffix = *end ? strchr(suffixes, *end) : NULL;
    uint64_t value = n;
    if (suffix) {
        for (long i = suffix - suffixes; i >= 0; i--)
            if (__builtin_mul_overflow(value, unit, &value))
                return false;
        end++;
    }
    *out = value;
    return errno == 0 && *end == '\0' && value >= low && value <= high;
}

static bool parse_unsigned(const char *text, unsigned low, unsigned high, unsigned *out)
{
    uint64_t n;
    bool good = parse_count(text, 1000, low, high, &n);
    if (good)
        *out = (unsigned)n;
    return good;
}

static bool parse_real(const char *text, double low, double high, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= low && *out <= high;
}

static bool parse_keys(const char *text, double *skew)
{
    if (strcmp(text, "uniform") == 0) {
        *skew = 0;
        return true;
    }
    if (strcmp(text, "zipf") == 0) {
        *skew = 0.99;
        return true;
    }
    return strncmp(text, "zipf:", 5) == 0 && parse_real(text + 5, 0.01, 10, skew);
}

static bool parse_ratio(const char *text, double *set_share)
{
    char *end;
    double gets = strtod(text, &end);
    if (end == text || *end != ':')
        return false;
    double sets;
    if (!parse_real(end + 1, 0, 1e9, &sets) || !(gets >= 0 && gets <= 1e9) || gets + sets <= 0)
        return false;
    *set_share = sets / (gets + sets);
    return true;
}

static bool parse_cpu(const char *text, struct bench_options *o)
{
    unsigned cpu;
    if (strcmp(text, "none") == 0) {
        o->n_cpus = 0;
        return true;
    }
    return parse_unsigned(text, 0, 65535, &cpu) && bench_cpus_init(o, (int)cpu);
}

static bool parse_output(const char *text, bool *json)
{
    *json = strcmp(text, "json") == 0;
    return *json || strcmp(text, "text") == 0;
}

static bool parse_value(const char *text, size_t *bytes)
{
    uint64_t n;
    bool good = parse_count(text, 1024, 0, 1u << 23, &n);
    if (good)
        *bytes = (size_t)n;
    return good;
}

static bool parse_speed(const char *text, struct bench_options *o)
{
    o->speed_auto = strcmp(text, "auto") == 0;
    return o->speed_auto || parse_real(text, 0, 1e9, &o->speed);
}

static bool parse_policy(const char *text, const char **policy)
{
    *policy = text;
    return strcmp(text, "evict") == 0 || strcmp(text, "fifo") == 0;
}

static bool parse_rate(const char *text, double *rate)
{
    uint64_t n;
    bool good = parse_count(text, 1000, 0, UINT64_C(1) << 40, &n);
    if (good)
        *rate = (double)n;
    return good;
}

static bool add_daemon_option(struct bench_options *o, const char *text)
{
    if (o->n_daemon_options == BENCH_DAEMON_OPTIONS)
        return false;
    o->daemon_options[o->n_daemon_options++] = text;
    return true;
}

/* False: its value is not one. */
static bool take(struct bench_options *o, int word, const char *arg)
{
    switch (word) {
    case OPT_SOCKET: o->socket = arg; return *arg != '\0';
    case OPT_PROCESSES: return parse_unsigned(arg, 1, WORKERS_MAX, &o->processes);
    case OPT_THREADS: return parse_unsigned(arg, 1, WORKERS_MAX, &o->threads);
    case OPT_KEYS: return parse_keys(arg, &o->skew);
    case OPT_VALUE: return parse_value(arg, &o->value_size);
    case OPT_ITEMS: return parse_count(arg, 1000, 1, UINT32_MAX, &o->items);
    case OPT_SECONDS: return parse_real(arg, 0.001, 3600, &o->seconds);
    case OPT_RATIO: return parse_ratio(arg, &o->set_share);
    case OPT_BATCH: return parse_unsigned(arg, 1, BENCH_BATCH, &o->batch);
    case OPT_CLIENTS: return parse_unsigned(arg, 1, 100000, &o->clients);
    case OPT_SEED: return parse_count(arg, 1000, 0, UINT64_MAX, &o->seed);
    case OPT_CPU: return parse_cpu(arg, o);
    case OPT_SPEED: return parse_speed(arg, o);
    case OPT_MEMORY: return parse_count(arg, 1024, 1, UINT64_C(1) << 46, &o->memory);
    case OPT_START: o->start_daemon = true; return true;
    case OPT_DAEMON: o->daemon = arg; return *arg != '\0';
    case OPT_DAEMON_OPTION: return add_daemon_option(o, arg);
    case OPT_FRACTION: return parse_real(arg, 1e-9, 1, &o->fraction);
    case OPT_BLOCKS: return parse_unsigned(arg, 8, 1u << 20, &o->blocks);
    case OPT_MIN_BLOCK: return parse_count(arg, 1024, 1, LRD_HUGE, &o->min_block);
    case OPT_POLICY: return parse_policy(arg, &o->policy);
    case OPT_UNIT: return parse_unsigned(arg, 1, 1u << 20, &o->unit);
    case OPT_IDLE_LANES: return parse_unsigned(arg, 0, 60000, &o->idle_lanes);
    case OPT_CHECK_EXPIRY: o->check_expiry = true; return true;
    case OPT_RATE: return parse_rate(arg, &o->rate);
    case OPT_GET_RATE: return parse_rate(arg, &o->get_rate);
    case OPT_VERIFY: o->verify = true; return true;
    case OPT_NO_FILL: o->no_fill = true; return true;
    default: return parse_output(arg, &o->json);
    }
}

/* ---- the line ---- */

static const char *word_name(int word)
{
    for (const struct option *w = words; w->name; w++)
        if (w->val == word)
            return w->name;
    return "?";
}

/* BENCH_OK: go on; else the end, with *done saying that all is said. */
static enum bench_status parse(int argc, char **argv, struct bench_options *o, bool *done)
{
    opterr = 0;
    for (int word; (word = getopt_long(argc, argv, ":o:", words, NULL)) != -1;) {
        if (word == OPT_HELP) {
            help();
            *done = true;
            return BENCH_OK;
        }
        if (word == OPT_VERSION) {
            printf("larder-bench %s\n", larder_version());
            *done = true;
            return BENCH_OK;
        }
        if (word == '?')
            return bench_error(BENCH_USAGE, "no such option: %s; see larder-bench --help", argv[optind - 1]);
        if (word == ':')
            return bench_error(BENCH_USAGE, "%s wants a value; see larder-bench --help", argv[optind - 1]);
        if (!take(o, word, optarg))
            return bench_error(BENCH_USAGE, "--%s cannot be '%s'; see larder-bench --help", word_name(word), optarg);
    }
    return BENCH_OK;
}

static enum bench_status parse_rest(int argc, char **argv, struct bench_options *o, const char **mode)
{
    int n = argc - optind;
    if (n == 0)
        return bench_error(BENCH_USAGE, "say what to measure; see larder-bench --help");
    *mode = argv[optind];
    bool replay = strcmp(*mode, "replay") == 0;
    if (strcmp(*mode, "all") != 0 && !bench_mode_find(*mode))
        return bench_error(BENCH_USAGE, "no such mode: %s; see larder-bench --help", *mode);
    if (replay && n == 1)
        return bench_error(BENCH_USAGE, "replay wants a file");
    if (n > (replay ? 2 : 1))
        return bench_error(BENCH_USAGE, "one thing too many: %s", argv[optind + (replay ? 2 : 1)]);
    o->file = replay ? argv[optind + 1] : NULL;
    if ((o->fraction > 0 || o->policy) && !o->start_daemon)
        return bench_error(BENCH_USAGE, "--%s is of a private daemon: say --start-daemon", o->policy ? "policy" : "fraction");
    if (o->check_expiry && o->processes * o->threads > 1)
        return bench_error(BENCH_USAGE, "--check-expiry wants one process and one thread, which knows what it has set");
    if (o->processes * o->threads > WORKERS_MAX)
        return bench_error(BENCH_USAGE, "--processes times --threads may be %u at most", WORKERS_MAX);
    return BENCH_OK;
}

static const char *default_socket(void)
{
    static char path[4096];
    const char *named = getenv("LARDER_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (named && *named)
        return named;
    if (access(DEFAULT_SOCKET, F_OK) != 0 && runtime && *runtime &&
        (size_t)snprintf(path, sizeof path, "%s/larder/default.sock", runtime) < sizeof path && access(path, F_OK) == 0)
        return path;
    return DEFAULT_SOCKET;
}

static enum bench_status measure(struct bench *b, const char *mode)
{
    b->socket = b->o.socket ? b->o.socket : default_socket();
    b->shared = bench_share(sizeof *b->shared);
    const struct bench_mode *one = bench_mode_find(mode);
    if (b->o.items == 0)
        b->o.items = one && one->items > 0 ? one->items : ITEMS;
    if (b->o.value_size == BENCH_VALUE_NOT_SAID)
        b->o.value_size = one && one->value > 0 ? one->value : VALUE;
    enum bench_status status = b->o.file ? bench_trace_open(b) : BENCH_OK;
    if (status != BENCH_OK)
        return status;
    bench_clock_init(&b->clock);
    status = one ? bench_mode_run(b, one) : bench_all(b);
    bench_trace_close(b);
    if (status != BENCH_OK && !bench_report_is_complete(b->report))
        return status;
    if (b->o.json)
        bench_report_json(b->report, b, mode);
    else
        bench_report_print(b->report, b, mode);
    return status;
}

static enum bench_status run(struct bench *b, const char *mode)
{
    b->report = bench_report_new();
    enum bench_status status = measure(b, mode);
    bench_report_free(b->report);
    return status;
}

int main(int argc, char **argv)
{
    struct bench b = {.o = {.value_size = BENCH_VALUE_NOT_SAID, .seconds = 5, .set_share = 0.05, .batch = 32, .processes = 1, .threads = 1, .clients = 100,
                            .seed = 1, .rate = -1, .get_rate = -1, .blocks = 64, .min_block = 16384}};
    const char *mode = NULL;
    bool done = false;
    bench_cpus_init(&b.o, -1);
    enum bench_status status = parse(argc, argv, &b.o, &done);
    if (status != BENCH_OK || done)
        return (int)status;
    status = parse_rest(argc, argv, &b.o, &mode);
    return (int)(status == BENCH_OK ? run(&b, mode) : status);
}
