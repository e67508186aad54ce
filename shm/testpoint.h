/* Places where a process may die, by name. A test sets LARDER_TESTPOINT=name[:n] in the environment of a process: it kills
 * itself with SIGKILL when it passes there the n-th time (first if not said). Builds without --enable-testpoints have none. */
#ifndef LRD_TESTPOINT_H
#define LRD_TESTPOINT_H

#ifdef LRD_TESTPOINTS
void lrd_testpoint(const char *name);
#define LRD_TESTPOINT(name) lrd_testpoint(name)
#else
#define LRD_TESTPOINT(name) ((void)0)
#endif

#endif
