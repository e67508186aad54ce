/* One line per event to standard error. Never blocks: a line that nobody takes is counted instead. */
#ifndef LRD_LOG_H
#define LRD_LOG_H

/* The order of --log-level in params.def. */
enum lrd_log_level { LRD_ERROR, LRD_WARNING, LRD_INFO, LRD_DEBUG };

/* Lines above this level are not written. */
void lrd_log_init(enum lrd_log_level level);

/* `larderd[pid]: level: text`, led by the time unless systemd's journal adds it. Any thread. Text from clients must not get here. */
void lrd_log(enum lrd_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
