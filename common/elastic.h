/* elastic.h - what torchrun and its workers leave in writing
 *
 * torchrun reaps its workers, so their exit statuses are its own to know. It
 * prints them when it gives up ("exitcode  : -9 (pid: 4711)"), and a worker whose
 * main function is decorated with @record writes its exception to the file that
 * TORCHELASTIC_ERROR_FILE names. Pure.
 */
#ifndef NA_COMMON_ELASTIC_H
#define NA_COMMON_ELASTIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/traceback.h"

struct elastic_failure {
	uint32_t rank, local_rank, pid;
	int code; /* exit code, or -signal */
	bool root; /* torchrun's "Root Cause (first observed failure)" */
};

/* The failures of the last such summary in p[0..n), at most max. */
size_t elastic_failures(const char *p, size_t n, struct elastic_failure *out, size_t max);
/* The text of an error file. kind NONE when it says nothing that can be used. */
void elastic_error_file(const char *p, size_t n, struct traceback *ret);

#endif
