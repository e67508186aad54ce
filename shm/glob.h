/* Patterns for keys: bytes, no characters; no locale, no memory.
 *
 *   *        any bytes, also none; / and a leading . are bytes like others
 *   ?        one byte
 *   [a-z_]   one of these bytes; [^a-z] and [!a-z] one that is none of these. A ] that stands first is one of them, and so is a - that stands first or last.
 *   \x       that byte, also within brackets
 *
 * A match takes at most pattern times key steps: of several stars only the last one that was reached ever gives anything back. */
#ifndef LRD_GLOB_H
#define LRD_GLOB_H

#include <stdbool.h>
#include <stddef.h>

#define LRD_GLOB_MAX 2048u /* bytes of a pattern: a key of 1,024 with a \ before each */

/* Whether a pattern is one: brackets closed, nothing missing behind a \. */
bool lrd_glob_ok(const void *pattern, size_t pattern_size);

/* Whether all of text matches a pattern that is one. */
bool lrd_glob_match(const void *pattern, size_t pattern_size, const void *text, size_t text_size);

#endif
