/* job_nccl.h - what a job's NCCL says of itself, for people and programs */
#ifndef NA_CLIENT_JOB_NCCL_H
#define NA_CLIENT_JOB_NCCL_H

#include "client/out.h"
#include "common/arena.h"
#include "proto/message.h"

bool job_nccl_known(const struct rec_job_info *j); /* there is something for the column NET */
void job_nccl_cell(struct out *o, const struct rec_job_info *j);
/* "nccl" of docs/json.md; 'nodes': of its nodes, too. */
void job_nccl_json(struct out *o, const struct rec_job_info *j, bool nodes);
/* Of one job: the line, why it is TCP, and the first trouble. */
void job_nccl_lines(struct out *o, const struct rec_job_info *j);
/* Does it need a person? A sentence, in the arena. */
bool job_nccl_alarm(const struct rec_job_info *j, const char **ret, struct arena *a);

#endif
