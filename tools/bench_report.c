/* Figures and distributions, as text and as JSON. */
#include "tools/bench.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIGURES_MAX 128u
#define DISTRIBUTIONS_MAX 32u

enum wish { NO_WISH, AT_MOST, AT_LEAST };

#define NAME_BYTES 80u

struct figure {
    char name[NAME_BYTES];
    const char *unit;
    double value, target;
    enum wish wish;
};

static const struct {
    const char *name;
    double part;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"max", 1}};
#define N_QUANTILES (sizeof quantiles / sizeof *quantiles)

struct distribution {
    char name[NAME_BYTES];
    uint64_t count;
    double raw_ns[N_QUANTILES], net_ns[N_QUANTILES];
};

struct bench_report {
    bool complete;
    unsigned n_figures, n_distributions;
    struct figure figures[FIGURES_MAX];
    struct distribution distributions[DISTRIBUTIONS_MAX];
};

/* ---- collecting ---- */

struct bench_report *bench_report_new(void)
{
    return bench_alloc(1, sizeof(struct bench_report));
}

void bench_report_free(struct bench_report *r) { free(r); }
void bench_report_finish(struct bench_report *r) { r->complete = true; }
bool bench_report_is_complete(const struct bench_report *r) { return r->complete; }

static void add(struct bench_report *r, const char *name, double value, const char *unit, enum wish wish, double target)
{
    if (r->n_figures == FIGURES_MAX)
        return;
    struct figure *f = &r->figures[r->n_figures++];
    *f = (struct figure){.unit = unit, .value = value, .target = target, .wish = wish};
    snprintf(f->name, sizeof f->name, "%s", name);
}

void bench_figure(struct bench_report *r, const char *name, double value, const char *unit) { add(r, name, value, unit, NO_WISH, 0); }

void bench_figure_of(struct bench_report *r, const char *mode, const char *what, double value, const char *unit)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s: %s", mode, what);
    add(r, name, value, unit, NO_WISH, 0);
}

void bench_figure_most(struct bench_report *r, const char *name, double value, const char *unit, double target)
{
    add(r, name, value, unit, AT_MOST, target);
}

void bench_figure_least(struct bench_report *r, const char *name, double value, const char *unit, double target)
{
    add(r, name, value, unit, AT_LEAST, target);
}

void bench_distribution(struct bench_report *r, const char *name, const struct bench_clock *c, const struct bench_stamps *s, unsigned ops)
{
    if (r->n_distributions == DISTRIBUTIONS_MAX)
        return;
    struct distribution *d = &r->distributions[r->n_distributions++];
    snprintf(d->name, sizeof d->name, "%s", name);
    d->count = lrd_histogram_count(&s->ticks);
    for (unsigned i = 0; i < N_QUANTILES; i++) {
        double ticks = bench_quantile_ticks(c, &s->ticks, quantiles[i].part);
        d->raw_ns[i] = ticks * c->ns_per_tick / ops;
        d->net_ns[i] = bench_net_ns(c, ticks, ops);
    }
}

static bool met(const struct figure *f) { return f->wish == AT_MOST ? f->value <= f->target : f->value >= f->target; }

/* ---- text ---- */

/* Three digits that mean something. */
static void number(char *text, size_t bytes, double value)
{
    if (isnan(value))
        snprintf(text, bytes, "-");
    else if (fabs(value) >= 100 || value == floor(value))
        snprintf(text, bytes, "%.0f", value);
    else if (fabs(value) >= 10)
        snprintf(text, bytes, "%.1f", value);
    else
        snprintf(text, bytes, fabs(value) >= 1 ? "%.2f" : "%.4f", value);
}

static void print_row(const char *name, const char *how, const double *ns)
{
    char text[32];
    printf("%-26s %-4s", name, how);
    for (unsigned i = 0; i < N_QUANTILES; i++) {
        number(text, sizeof text, ns[i]);
        printf(" %8s", text);
    }
}

static void print_distributions(const struct bench_report *r)
{
    if (r->n_distributions == 0)
        return;
    printf("\n%-31s", "ns");
    for (unsigned i = 0; i < N_QUANTILES; i++)
        printf(" %8s", quantiles[i].name);
    printf(" %12s\n", "count");
    for (unsigned i = 0; i < r->n_distributions; i++) {
        const struct distribution *d = &r->distributions[i];
        print_row(d->name, "raw", d->raw_ns);
        printf(" %12llu\n", (unsigned long long)d->count);
        print_row("", "net", d->net_ns);
        printf("\n");
    }
}

static void print_figure(const struct figure *f)
{
    char value[32], target[32];
    number(value, sizeof value, f->value);
    printf("%-56s %10s %-4s", f->name, value, f->unit);
    if (f->wish != NO_WISH) {
        number(target, sizeof target, f->target);
        printf("  %s %7s  %s", f->wish == AT_MOST ? "<=" : ">=", target, met(f) ? "met" : "MISSED");
    }
    printf("\n");
}

void bench_report_print(const struct bench_report *r, const struct bench *b, const char *mode)
{
    printf("larder-bench %s: ", mode);
    if (b->o.file)
        printf("%s", b->o.file);
    else if (strcmp(mode, "hunt") == 0)
        printf("messages");
    else {
        printf("%llu items of %u + %zu bytes, ", (unsigned long long)b->o.items, BENCH_KEY, b->o.value_size);
        if (b->o.skew > 0)
            printf("zipf:%g", b->o.skew);
        else
            printf("uniform");
    }
    printf(", %u x %u workers, %g s; a stamp costs %.1f ns and counts in steps of %.1f\n", b->o.processes, b->o.threads, b->o.seconds,
           b->clock.cost_ticks * b->clock.ns_per_tick, (double)b->clock.step_ticks * b->clock.ns_per_tick);
    print_distributions(r);
    printf("\n");
    for (unsigned i = 0; i < r->n_figures; i++)
        print_figure(&r->figures[i]);
}

/* ---- JSON ---- */

static json_t *real_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *figure_json(const struct figure *f)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(f->name));
    json_object_set_new(o, "value", real_or_null(f->value));
    json_object_set_new(o, "unit", json_string(f->unit));
    if (f->wish != NO_WISH) {
        json_object_set_new(o, f->wish == AT_MOST ? "at_most" : "at_least", real_or_null(f->target));
        json_object_set_new(o, "met", json_boolean(met(f)));
    }
    return o;
}

static json_t *quantiles_json(const double *ns)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < N_QUANTILES; i++)
        json_object_set_new(o, quantiles[i].name, json_real(ns[i]));
    return o;
}

static json_t *distribution_json(const struct distribution *d)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(d->name));
    json_object_set_new(o, "count", json_integer((json_int_t)d->count));
    json_object_set_new(o, "raw_ns", quantiles_json(d->raw_ns));
    json_object_set_new(o, "net_ns", quantiles_json(d->net_ns));
    return o;
}

static json_t *options_json(const struct bench *b)
{
    json_t *o = json_object();
    json_object_set_new(o, "items", json_integer((json_int_t)b->o.items));
    json_object_set_new(o, "value_bytes", json_integer((json_int_t)b->o.value_size));
    json_object_set_new(o, "skew", json_real(b->o.skew));
    json_object_set_new(o, "set_share", json_real(b->o.set_share));
    json_object_set_new(o, "batch", json_integer(b->o.batch));
    json_object_set_new(o, "processes", json_integer(b->o.processes));
    json_object_set_new(o, "threads", json_integer(b->o.threads));
    json_object_set_new(o, "seconds", json_real(b->o.seconds));
    json_object_set_new(o, "seed", json_integer((json_int_t)b->o.seed));
    json_object_set_new(o, "fraction", json_real(b->o.fraction));
    json_object_set_new(o, "policy", b->o.policy ? json_string(b->o.policy) : json_null());
    json_object_set_new(o, "idle_lanes", json_integer(b->o.idle_lanes));
    return o;
}

void bench_report_json(const struct bench_report *r, const struct bench *b, const char *mode)
{
    json_t *o = json_object(), *figures = json_array(), *distributions = json_array();
    for (unsigned i = 0; i < r->n_figures; i++)
        json_array_append_new(figures, figure_json(&r->figures[i]));
    for (unsigned i = 0; i < r->n_distributions; i++)
        json_array_append_new(distributions, distribution_json(&r->distributions[i]));
    json_object_set_new(o, "mode", json_string(mode));
    json_object_set_new(o, "version", json_string(larder_version()));
    json_object_set_new(o, "options", options_json(b));
    json_object_set_new(o, "stamp_ns", json_real(b->clock.cost_ticks * b->clock.ns_per_tick));
    json_object_set_new(o, "stamp_step_ns", json_real((double)b->clock.step_ticks * b->clock.ns_per_tick));
    json_object_set_new(o, "figures", figures);
    json_object_set_new(o, "distributions", distributions);
    json_dumpf(o, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(o);
}
