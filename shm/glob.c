#include "shm/glob.h"

/* What is left of a pattern. */
struct rest {
    const unsigned char *at, *end;
};

/* One byte that may have a \ before it. False: there is none. */
static bool take_byte(struct rest *p, unsigned char *byte)
{
    if (p->at < p->end && *p->at == '\\')
        p->at++;
    if (p->at == p->end)
        return false;
    *byte = *p->at++;
    return true;
}

/* A member of brackets: a byte, or first-last. */
static bool take_range(struct rest *p, unsigned char *first, unsigned char *last)
{
    if (!take_byte(p, first))
        return false;
    *last = *first;
    if (p->end - p->at < 2 || p->at[0] != '-' || p->at[1] == ']')
        return true;
    p->at++;
    return take_byte(p, last);
}

/* Brackets, behind the opening one. False: they are not closed. */
static bool take_set(struct rest *p, unsigned char c, bool *match)
{
    bool others = p->at < p->end && (*p->at == '^' || *p->at == '!'), in = false;
    p->at += others;
    const unsigned char *begin = p->at;
    while (p->at < p->end && (*p->at != ']' || p->at == begin)) {
        unsigned char first, last;
        if (!take_range(p, &first, &last))
            return false;
        in |= first <= c && c <= last;
    }
    if (p->at == p->end)
        return false;
    p->at++;
    *match = in != others;
    return true;
}

/* Whatever stands for one byte, and whether c is one of those. False: it is not whole. */
static bool take_one(struct rest *p, unsigned char c, bool *match)
{
    unsigned char byte;
    if (*p->at == '?') {
        p->at++;
        *match = true;
        return true;
    }
    if (*p->at == '[') {
        p->at++;
        return take_set(p, c, match);
    }
    if (!take_byte(p, &byte))
        return false;
    *match = byte == c;
    return true;
}

bool lrd_glob_ok(const void *pattern, size_t pattern_size)
{
    struct rest p = {pattern, (const unsigned char *)pattern + pattern_size};
    bool match;
    if (pattern_size > LRD_GLOB_MAX)
        return false;
    while (p.at < p.end) {
        if (*p.at == '*')
            p.at++;
        else if (!take_one(&p, 0, &match))
            return false;
    }
    return true;
}

bool lrd_glob_match(const void *pattern, size_t pattern_size, const void *text, size_t text_size)
{
    struct rest p = {pattern, (const unsigned char *)pattern + pattern_size}, star = {NULL, NULL};
    const unsigned char *t = text, *end = t + text_size, *given = NULL;
    while (t < end) {
        bool match = false;
        if (p.at < p.end && *p.at == '*') {
            p.at++;
            star = p; /* all that was matched before it stays as it is: a shorter beginning leaves more for what follows */
            given = t;
            continue;
        }
        if (p.at < p.end && !take_one(&p, *t, &match))
            return false;
        if (match)
            t++;
        else if (given != NULL) {
            p = star;
            t = ++given; /* the star takes one byte more */
        } else
            return false;
    }
    while (p.at < p.end && *p.at == '*')
        p.at++;
    return p.at == p.end;
}
