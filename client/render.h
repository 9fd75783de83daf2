/* render.h - jobs as rows and details, and times as people read them */
#ifndef NA_CLIENT_RENDER_H
#define NA_CLIENT_RENDER_H

#include "client/out.h"
#include "proto/message.h"

/* "2s" "3m" "4h" "5d": how long ago. */
void render_age(struct buf *b, uint64_t ms);
/* What follows "job 3 waits": " for 1 node ..." of "waiting for 1 node ...", or ": why". */
void render_waiting(struct buf *b, const char *why);
/* "may start at 14:05 at the latest"; nothing when nobody knows. */
void render_start_by(struct buf *b, const struct rec_job_info *j, int64_t wall_ms);
/* "0.3s" "42s" "6m12s" "3h10m" "2d4h": how long. */
void render_duration(struct buf *b, uint64_t ms);

/* A job that has ended. */
/* The word for people: "ended" when it has failed because its owner or an administrator wanted its end. */
const char *render_job_state(const struct rec_job_info *j);
bool render_job_over(const struct rec_job_info *j);
/* How long it has run (or waited) at 'wall_ms', in milliseconds. */
uint64_t render_job_ms(const struct rec_job_info *j, int64_t wall_ms);
/* The table "jobs". */
void render_jobs(struct out *o, const struct rec_job_info *jobs, size_t n, int64_t wall_ms);
/* All that is known of one job, within an open OUT_OBJECT. */
void render_job(struct out *o, const struct rec_job_info *j, int64_t wall_ms);

/* Who it was, and how: "rank 3 (gpu02, pid 4711) exited with code 7", or its worker that was
 * first: "rank 5 (gpu02, local rank 1, pid 4711, below the launcher) was killed by signal 9 (SIGKILL)" */
void render_culprit(struct buf *b, const struct rec_job_info *j, const struct rec_rank_state *r);
/* "exited with code 7", "was killed by signal 9 (SIGKILL)", "could not start: ..." */
void render_rank_end(struct buf *b, const struct rec_rank_state *r);
/* The colour of a state of a node, a job, a rank or a port. */
enum out_tone render_tone(const char *state);
/* "3 nodes", "1 node" */
void render_count(struct buf *b, uint64_t n, const char *one, const char *many);

#endif
