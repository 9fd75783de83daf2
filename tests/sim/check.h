/* check.h - what must hold, and who looks at it; a part of sim.h, which includes it */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

/* ---- check.c -------------------------------------------------------------------------------- */

struct jobrec *check_job(struct sim *s, uint64_t job);
void check_message(struct sim *s, struct conn *c, int side, const struct msg *m);
void check_sent(struct sim *s, struct conn *c, int side, const char *text, size_t len); /* by the coordinator */
void check_row(struct sim *s, const struct row *now);
void check_shim_ready(struct sim *s, const struct shim_actor *h);
void check_start(struct sim *s, struct shim_actor *h);
void check_signal(struct sim *s, struct shim_actor *h, int sig);
void check_told(struct sim *s, struct client *k, const struct rec_job_update *u);
void check_acked(struct sim *s, struct client *k, uint64_t job);
void check_coord(struct sim *s);
void check_deferred(struct sim *s, const struct event *e);
void check_leaves(struct sim *s, struct shim_actor *h, int64_t grace); /* its agent was asked to stop */
void check_shim_told(struct sim *s, struct shim_actor *h, uint32_t grace_ms);
void check_shim_died(struct sim *s, struct shim_actor *h);
/* check_silence.c */
void silence_begins(struct sim *s); /* a coordinator starts: it has heard nobody yet */
void silence_word(struct sim *s, const struct conn *c); /* came to the coordinator */
void silence_registered(struct sim *s, struct conn *c);
void silence_shown(struct sim *s, const struct rec_status *m);
void silence_row(struct sim *s, const struct store_row *r);
void silence_look_job(struct sim *s, const struct rec_row_job *r);
void silence_told(struct sim *s, uint64_t job, uint32_t attempt, const struct rec_rank_state *v, size_t n);
/* check_again.c */
void again_started(struct sim *s, const struct shim_actor *h);
void again_row(struct sim *s, const struct store_row *row); /* asked to be stored */
void again_stored(struct sim *s, struct jobrec *j, const struct rec_row_job *r);
void again_outcome(struct sim *s, uint64_t job, const struct jobrec *j);
/* check_due.c */
void due_disturbed(struct sim *s, int64_t lasts); /* something goes wrong now, for so long */
void due_kill_confirmed(struct sim *s, uint64_t job); /* to its owner */
void due_start_sent(struct sim *s, uint64_t job);
void due_limit_reached(struct sim *s, uint64_t job, const struct jobrec *j); /* on disk */
void due_look_job(struct sim *s, const struct rec_row_job *r); /* for each job in the coordinator's memory */
void due_looked(struct sim *s);
void due_signal(struct sim *s, struct shim_actor *h, int sig);
void due_heard(struct sim *s, const struct agent_actor *a);
/* check_choice.c */
void choice_row(struct sim *s, const struct rec_row_job *r); /* asked to be stored */
void choice_between(struct sim *s, struct jobrec *j, const struct rec_row_job *r); /* on disk, before it is noted */
void choice_begins(struct sim *s);
void choice_port(struct sim *s, const struct rec_prepared *p); /* said by node rank 0 */
void choice_go(struct sim *s, const struct shim_actor *h, const struct rec_shim_go *go);
void choice_prove(struct sim *s, const struct agent_actor *a, const struct rec_prove *m);
/* check_load.c */
void load_looked(struct sim *s, const struct row *rows); /* by a coordinator that starts */
void load_quiet(struct sim *s); /* at the end of a run */
/* check_ranks.c */
void ranks_row(struct sim *s, const struct rec_row_job *r);
/* repeat.c */
void repeat_said(struct sim *s, struct agent_actor *a, const char *text, size_t len);
void repeat_soon(struct sim *s, struct agent_actor *a, uint64_t job, uint32_t attempt); /* it is to prepare this one */
void repeat_event(struct sim *s, struct agent_actor *a, const struct event *e);
/* hang.c */
void hang_began(struct sim *s, struct shim_actor *h);
bool hang_holds(const struct shim_actor *h); /* its ranks run until they are ended */
void hang_pulse(struct sim *s, struct shim_actor *h); /* EV_PULSE */
void hang_listened(struct shim_actor *h);
void hang_event(struct sim *s, const struct event *e); /* EV_HANG */
void hang_look_job(struct sim *s, const struct rec_row_job *r);
void hang_row(struct sim *s, const struct rec_row_job *r);
bool hang_ends(const struct sim *s, const struct shim_actor *h);
/* check_below.c */
/* Of a rank, for SEV_WORKERS, or (over) for SEV_REAPED; NULL: nothing to tell. */
const struct shim_below *below_make(struct sim *s, uint32_t rank, bool over, int status, bool signalled);
void check_below(struct sim *s, const struct rec_row_job *row);
/* check_events.c */
void events_row(struct sim *s, const struct row *now);
void events_outcome(struct sim *s);
void policy_row(struct sim *s, const struct rec_row_node *r);
void policy_outcome(struct sim *s);

/* check_removed.c */
void removed_now(struct sim *s, uint32_t host); /* it was confirmed */
void removed_back(struct sim *s, uint32_t host);
void removed_sent(struct sim *s, struct conn *c, int side, const char *text, size_t len);
void removed_told(struct sim *s, struct conn *c); /* a word of the coordinator came to an agent */
bool removed_host(const struct sim *s, uint32_t host);
/* check_queue.c */
void queue_looked(struct sim *s); /* after each step of the coordinator */
/* check_cause.c */
void cause_over(struct sim *s, const struct rec_row_job *r); /* its end is on disk */
void cause_told(struct sim *s, const struct rec_job_info *i); /* as settled */
/* check_end.c */
bool check_quiet(struct sim *s); /* nothing is left to wait for */
void check_liveness(struct sim *s);
void check_outcomes(struct sim *s);

#endif
