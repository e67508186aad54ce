/* race_segment.c with threads, for ThreadSanitizer: every access that is not an atomic of its own must be ordered by one. */
#define RACE_THREADS 1
#include "tests/race_segment.c"
