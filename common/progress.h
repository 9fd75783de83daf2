/* progress.h - how far a training is, by what it prints or writes
 *
 * Two dialects: tqdm's bar (" 28%|##   | 340/1200 [1:02:11<2:37:18, 10.98s/it]") and
 * a line of LLaMA-Factory's trainer_log.jsonl (src/llamafactory/train/callbacks.py:
 * current_steps, total_steps, loss, percentage, elapsed_time, remaining_time). Beside
 * a bar, Hugging Face's Trainer prints {'loss': 1.31, ...}.
 *
 * The text is a stranger's: whatever does not look like one of these is none.
 */
#ifndef NA_COMMON_PROGRESS_H
#define NA_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	uint64_t step, steps; /* steps 0: not known */
	bool has_left;
	uint64_t left_s;
	char loss[24]; /* a number as it was written; "": not known */
	bool bar; /* from a bar */
};

/* The last bar in this output, which may begin and end anywhere. A bar of downloads
 * ("12.3M/1.2G") is none. False, *ret untouched: there is none. */
bool progress_bar(const char *p, size_t n, struct progress *ret);
/* The last {'loss': NUMBER in this output. False, out untouched: there is none. */
bool progress_loss(const char *p, size_t n, char out[24]);
/* The last whole line of a trainer_log.jsonl that tells a step, out of its end. */
bool progress_trainer_log(const char *p, size_t n, struct progress *ret);
/* "2:37:18", "37:18", "1 day, 2:37:18". Seconds, or -1. */
int64_t progress_seconds(const char *p, size_t n);

#endif
