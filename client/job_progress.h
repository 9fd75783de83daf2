/* job_progress.h - what a job does and how far it is, as rows, lines and JSON */
#ifndef NA_CLIENT_JOB_PROGRESS_H
#define NA_CLIENT_JOB_PROGRESS_H

#include "client/out.h"
#include "proto/message.h"

/* NULL: nobody has told. */
const struct rec_job_progress *job_progress(const struct rec_job_info *j);
const struct rec_train_step *job_step(const struct rec_job_info *j); /* NULL: it is not known */
/* Worth a column: training, tokenising, checkpointing, hung. */
bool job_phase_counts(const struct rec_job_info *j);
void job_progress_json(struct out *o, const struct rec_job_info *j);
void job_step_cells(struct out *o, const struct rec_job_info *j); /* STEP LOSS LEFT */
/* The last hang of it that is over, or went with the job: a line, and for programs. */
void job_past_hang(struct out *o, const struct rec_job_info *j);
/* Is this the rank that is behind, as its job hangs? */
bool job_rank_hangs(const struct rec_job_info *j, uint32_t rank);
void job_progress_lines(struct out *o, const struct rec_job_info *j); /* of one job, for people */
/* "hangs: rank 5 ...  fix: ..."; nothing when it does not. */
void job_hang_text(struct buf *b, const struct rec_job_info *j);

#endif
