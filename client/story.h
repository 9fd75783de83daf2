/* story.h - what happened to a job, moment by moment, and whose end was the first */
#ifndef NA_CLIENT_STORY_H
#define NA_CLIENT_STORY_H

#include "client/out.h"
#include "proto/message.h"

/* "cause", "either" and "others" of a job that a rank has ended: those that are known. */
void story_cause(struct out *o, const struct rec_job_info *j);
/* The same in lines for 'launch': 'say' is called with each. */
void story_say_cause(const struct rec_job_info *j, void (*say)(void *arg, const char *line), void *arg);
/* 'why' only says again what 'first', 'cause' and 'either' do. */
bool story_says_why(const struct rec_job_info *j);
/* The table "story". */
void story_table(struct out *o, const struct rec_job_info *j);
/* "±0.3 ms" */
void story_error(struct buf *b, uint64_t error_us);

#endif
