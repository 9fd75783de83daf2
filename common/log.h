/* log.h - one line a message, on standard error
 *
 * With a journal on stderr (JOURNAL_STREAM set) lines carry a "<N>" priority
 * prefix and no time; otherwise local time and level. Control characters in
 * messages are escaped, so nobody can forge a line. Only mains and io log.
 *
 * Lines that concern a node or a job go to the journal's own socket, where they
 * carry the fields NODE, JOB and ATTEMPT: `journalctl JOB=12`.
 */
#ifndef NA_COMMON_LOG_H
#define NA_COMMON_LOG_H

#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* 'who' is printed on each line ("agent gpu01"); copied. */
void log_setup(const char *who, enum log_level max);
/* All lines from now on concern this node; copied. */
void log_node(const char *node);
void log_line(enum log_level lvl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "job JOB.ATTEMPT: ..." */
void log_job(enum log_level lvl, uint64_t job, uint32_t attempt, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* For tests: another socket than the journal's; borrowed. */
void log_journal_at(const char *path);

#define log_error(...) log_line(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LVL_DEBUG, __VA_ARGS__)

#endif
