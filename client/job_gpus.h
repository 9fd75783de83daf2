/* job_gpus.h - the GPUs that a job holds on each of its nodes */
#ifndef NA_CLIENT_JOB_GPUS_H
#define NA_CLIENT_JOB_GPUS_H

#include "client/out.h"
#include "proto/message.h"

unsigned job_gpus_count(const struct rec_job_info *j);
/* "0-7 of gpu[01-02]; 4-7 of gpu03"; "8 of each node wanted"; nothing when neither is known. */
void job_gpus_text(struct buf *b, const struct rec_job_info *j);
/* "gpus_per_node" and "gpus" of docs/json.md. */
void job_gpus_json(struct out *o, const struct rec_job_info *j);

#endif
