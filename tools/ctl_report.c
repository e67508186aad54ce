/* Figures with names and units: a verb collects them once, and they are written as text or as JSON.
 *
 * A report is a list of entries in order. A group or a list begins with its name; the figures that follow are its own, until the next
 * begins. Within a list each row begins anew. JSON: {"group": {"name": value}, "list": [{"name": value}], "sentences": ["..."],
 * "units": {"group": {"name": "unit"}}}. */
#include "tools/ctl.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum kind { GROUP, LIST, ROW, U64, REAL, TEXT, SENTENCE };

struct entry {
    enum kind kind;
    const char *name;
    const char *unit;
    uint64_t u64;
    double real;
    char *text;
};

struct ctl_report {
    struct entry *entry;
    size_t n;
};

struct ctl_report *ctl_report_create(void)
{
    struct ctl_report *report = ctl_alloc(1, sizeof *report);
    *report = (struct ctl_report){0};
    return report;
}

void ctl_report_free(struct ctl_report *report)
{
    for (size_t i = 0; i < report->n; i++)
        free(report->entry[i].text);
    free(report->entry);
    free(report);
}

static void add(struct ctl_report *report, struct entry e)
{
    if ((report->n & (report->n - 1)) == 0)
        report->entry = ctl_grow(report->entry, report->n ? report->n * 2 : 1, sizeof e);
    report->entry[report->n++] = e;
}

static __attribute__((format(printf, 1, 0))) char *format_text(const char *format, va_list ap)
{
    char *text;
    return vasprintf(&text, format, ap) < 0 ? NULL : text;
}

void ctl_report_group(struct ctl_report *report, const char *name) { add(report, (struct entry){.kind = GROUP, .name = name}); }
void ctl_report_list(struct ctl_report *report, const char *name) { add(report, (struct entry){.kind = LIST, .name = name}); }
void ctl_report_row(struct ctl_report *report) { add(report, (struct entry){.kind = ROW}); }

void ctl_report_u64(struct ctl_report *report, const char *name, const char *unit, uint64_t value)
{
    add(report, (struct entry){.kind = U64, .name = name, .unit = unit, .u64 = value});
}

void ctl_report_real(struct ctl_report *report, const char *name, const char *unit, double value)
{
    add(report, (struct entry){.kind = REAL, .name = name, .unit = unit, .real = value});
}

void ctl_report_text(struct ctl_report *report, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add(report, (struct entry){.kind = TEXT, .name = name, .unit = "", .text = format_text(format, ap)});
    va_end(ap);
}

void ctl_report_say(struct ctl_report *report, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add(report, (struct entry){.kind = SENTENCE, .text = format_text(format, ap)});
    va_end(ap);
}

/* ---- text ---- */

static const char *text_of(const struct entry *e) { return e->text ? e->text : ""; }

static void print_readable(uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes / 1024;
    unsigned i = 0;
    for (; x >= 1024 && i < 3; i++)
        x /= 1024;
    printf(" (%.1f %s)", x, unit[i]);
}

static void print_value(const struct entry *e)
{
    if (e->kind == TEXT)
        fputs(text_of(e), stdout);
    else if (e->kind == REAL)
        printf("%.3f", e->real);
    else
        printf("%" PRIu64, e->u64);
    if (*e->unit)
        printf(" %s", e->unit);
    if (e->kind == U64 && e->u64 >= 10240 && strcmp(e->unit, "bytes") == 0)
        print_readable(e->u64);
}

static void print_text(const struct ctl_report *report)
{
    bool in_list = false, first = true;
    for (size_t i = 0; i < report->n; i++) {
        const struct entry *e = &report->entry[i];
        bool last = i + 1 == report->n || report->entry[i + 1].kind <= ROW;
        switch (e->kind) {
        case GROUP:
        case LIST:
            /* A list of nothing is not worth a heading. */
            if (e->kind == GROUP || !last)
                printf("%s%s\n", i ? "\n" : "", e->name);
            else if (i + 1 < report->n && report->entry[i + 1].kind == ROW)
                printf("\n%s\n", e->name);
            in_list = e->kind == LIST;
            break;
        case ROW:
            first = true;
            break;
        case SENTENCE:
            printf("  %s\n", text_of(e));
            break;
        case U64:
        case REAL:
        case TEXT:
            if (in_list)
                printf("%s%s ", first ? "  " : ", ", e->name);
            else
                printf("  %-22s ", e->name);
            print_value(e);
            if (!in_list || last)
                putchar('\n');
            first = false;
            break;
        }
    }
}

/* ---- JSON ---- */

static json_t *json_value(const struct entry *e)
{
    if (e->kind == TEXT || e->kind == SENTENCE) {
        json_t *text = json_string(text_of(e));
        return text ? text : json_string("?"); /* not UTF-8 */
    }
    if (e->kind == REAL)
        return json_real(e->real);
    return json_integer(e->u64 > INT64_MAX ? INT64_MAX : (json_int_t)e->u64);
}

/* units.GROUP.NAME = unit */
static void note_unit(json_t *units, const char *group, const struct entry *e)
{
    if (!json_object_get(units, group))
        json_object_set_new(units, group, json_object());
    json_object_set_new(json_object_get(units, group), e->name, json_string(e->unit));
}

static json_t *as_json(const struct ctl_report *report)
{
    json_t *root = json_object(), *units = json_object(), *group = root, *at = root;
    const char *name = "";
    for (size_t i = 0; i < report->n; i++) {
        const struct entry *e = &report->entry[i];
        switch (e->kind) {
        case GROUP:
        case LIST:
            name = e->name;
            at = group = e->kind == LIST ? json_array() : json_object();
            json_object_set_new(root, name, group);
            break;
        case ROW:
            at = json_object();
            json_array_append_new(group, at);
            break;
        case SENTENCE:
            json_array_append_new(group, json_value(e));
            break;
        case U64:
        case REAL:
        case TEXT:
            json_object_set_new(at, e->name, json_value(e));
            if (*e->unit)
                note_unit(units, name, e);
            break;
        }
    }
    json_object_set_new(root, "units", units);
    return root;
}

bool ctl_report_print(const struct ctl_report *report, bool json)
{
    if (!json) {
        print_text(report);
        return fflush(stdout) == 0;
    }
    json_t *root = as_json(report);
    bool ok = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
    json_decref(root);
    putchar('\n');
    return fflush(stdout) == 0 && ok;
}
