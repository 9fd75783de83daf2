/* coord_internal.h - what the coordinator's files share; nobody else includes it
 *
 *   coord.c        creation, dispatch of events, links, deadlines
 *   coord_nodes.c  registry: registration, silence, removal
 *   coord_join.c   tokens, and the nodes that join with them
 *   coord_cordon.c  nodes that get no new jobs: drained, or with a process that cannot be ended
 *   coord_policy.c  nodes that are left out by themselves: unfit, or quarantined
 *   coord_sm.c     where the subnet manager is
 *   coord_place.c  which nodes a job gets
 *   coord_queue.c  until when they are held, and what may run in the meantime
 *   coord_jobs.c   life of a job: submit, store, schedule, deadlines
 *   coord_prepare.c from chosen nodes to the start: prepare, prove, start
 *   coord_life.c   what nodes report, and how a job ends
 *   coord_cause.c  states of ranks, and whose end was the first cause
 *   coord_why.c    the end of a job in words
 *   coord_evidence.c  what happened on nodes near the first end
 *   coord_story.c  the moments of a job
 *   below.c        what is below a rank (for the agent as well)
 *   coord_recover.c  what a registering node holds, and what follows
 *   coord_restart.c  another attempt of a job: when, and where not
 *   coord_history.c  what is kept of jobs that are over
 *   coord_answer.c what clients ask: status, jobs, watch
 *   coord_peers.c  which nodes may read what of a job at which node
 *   coord_specs.c  which specifications nodes must keep
 *   coord_rows.c   state to and from stored rows
 *   coord_readings.c  what nodes' probes read: GPUs that are free, clocks
 *   coord_clean.c  GPUs that a job has left, until they are seen to be as before
 *   coord_verdicts.c  what these mean, and since when
 *   coord_hold.c  ... and those that come and go
 *   coord_checks.c  all checks of all nodes, for nodectl check
 *   coord_explain.c  gathers what explain.c puts into one paragraph
 *   coord_ras.c  asks their RAS
 *   coord_nccl.c  what jobs' NCCL said
 *   coord_hang.c   what running jobs do, and which of them hang
 *   coord_events.c  what happened in the cluster, kept for people (coord_events.h)
 *   coord_base.c   how fast 'check nccl' found them, and what a run is compared with
 *   coord_topology.c  a node's topology, asked for on its behalf
 *   coord_net.c  NCCL's network: which settings the ranks get, and plans of jobs
 */
#ifndef NA_CORE_COORD_INTERNAL_H
#define NA_CORE_COORD_INTERNAL_H

#include "core/coord_model.h"

/* coord.c */
struct clink *coord_link(struct coord *c, uint64_t id);
struct clink *coord_link_open(struct coord *c, uint64_t id); /* NULL also when it is being closed */
/* Nothing is sent on it any more; CEV_LINK_DOWN follows. */
void coord_close(struct coord *c, struct clink *l, const char *why);
void coord_wake_at(struct coord *c, mono_t t);
void coord_refuse(struct coord *c, struct clink *l, uint32_t rid, const char *code,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Starts a durable transaction; add rows to the action, and say what follows. */
struct action *coord_persist(struct coord *c, struct pending **ret);
char *coord_strdup(struct coord *c, const char *s); /* NULL for NULL; notes ENOMEM */
void coord_set_text(struct coord *c, char **dst, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* coord_nodes.c */
struct node *node_find(const struct coord *c, const char *name);
struct node *node_of_key(const struct coord *c, const uint8_t key[32]);
int node_insert(struct coord *c, struct node *n);
const char *node_state(const struct node *n); /* ok unreachable down quarantined */
bool node_usable(const struct node *n);
struct node *node_removed_find(const struct coord *c, const char *name);
void node_heard(struct coord *c, struct node *n);
void node_link_gone(struct coord *c, struct clink *l);
void node_deadlines(struct coord *c);
/* The coordinator itself was absent for so long: that was nobody's silence. */
void nodes_forgive(struct coord *c, int64_t ms);
void nodes_on_register(struct coord *c, struct clink *l, const struct rec_node_register *r);
void nodes_on_remove(struct coord *c, struct clink *l, const struct rec_node_remove *r);
void nodes_fill_peer(const struct node *n, struct rec_peer *ret);
uint64_t key_id(const uint8_t key[32]); /* never 0 */
bool same32(const uint8_t *a, const uint8_t *b); /* constant time: secrets pass here */
/* For the words that say how to remove it: a node that jobs hold is taken out by force only. */
const char *node_removal_flag(const struct node *n);
void node_take_out(struct coord *c, struct node *n);

/* coord_join.c */
void nodes_on_token_create(struct coord *c, struct clink *l, const struct rec_token_create *t);
void nodes_on_join(struct coord *c, struct clink *l, const struct rec_join *j);
void nodes_joined(struct coord *c, const struct pending *p, int error);
void tokens_free(struct coord *c);

/* Refused already when false. */
bool admin_only(struct coord *c, struct clink *l, uint32_t rid, const char *what);
/* m is sent to l when the transaction is durable, or a refusal. */
void reply_when_stored(struct coord *c, struct pending *pd, struct clink *l, uint32_t rid,
		       const struct msg *m);

/* coord_cordon.c */
bool node_cordoned(const struct node *n); /* gets no new jobs */
const char *node_cordon_text(struct arena *a, const struct node *n); /* NULL: it is not */
void node_drain_free(struct node *n);
int node_set_stuck(struct coord *c, struct node *n, const struct rec_stuck_proc *v, size_t k); /* 0 or -1: no memory */
void cordon_verdicts(struct arena *a, const struct node *n, struct verdicts *v);
void cordon_tell(struct coord *c, const struct node *n, bool instead); /* which processes are stored */
void cordon_on_stuck(struct coord *c, struct node *n, const struct rec_stuck *s);
void cordon_rebooted(struct coord *c, struct node *n);
void nodes_on_drain(struct coord *c, struct clink *l, const struct rec_node_drain *r);

/* coord_sm.c: names the host of the subnet manager where a port waits for one */
void sm_verdicts(struct arena *a, const struct coord *c, const struct node *n, struct verdicts *v);
/* All nodes in their order, as they tell; NULL: no memory. */
struct sm_node *sm_nodes(struct arena *a, const struct coord *c);

/* coord_fix.c */
void fix_on_request(struct coord *c, struct clink *l, const struct rec_sm_fix *r);
void fix_on_done(struct coord *c, const struct node *n, const struct rec_sm_fixed *said);
bool fix_asked(const struct coord *c, uint64_t link); /* it waits for an answer */
void fix_on_stored(struct coord *c, uint32_t rid, int error, const char *text); /* the order is on disk, or not */
void fix_registered(struct coord *c, const struct node *n, bool fresh); /* its agent is back; fresh: it is another one */
void fix_fill_row(struct arena *a, const struct coord *c, const struct node *n, struct rec_row_node *r);
int fix_load(struct coord *c, const struct rec_row_node *r); /* -ENOMEM */
void fix_deadlines(struct coord *c);
void fix_free(struct coord *c);

/* coord_policy.c */
void policy_on_verdicts(struct coord *c, struct node *n, const struct verdicts *v);
void policy_on_failure(struct coord *c, const char *node); /* a job has failed by what ended there first */
void policy_resume(struct node *n);
const char *policy_why(struct arena *a, const struct node *n); /* NULL: it is not left out by itself */
void policy_free(struct node *n);

/* coord_verdicts.c */
/* Judges, and fills in the times; whether the clock is off. Texts live in the
 * arena, in the node and its readings. */
bool verdicts_of(struct arena *a, struct coord *c, struct node *n, struct verdicts *ret, struct checks *rows);
uint64_t verdict_key(const struct verdicts *v, size_t i); /* what it is about and its kind */
bool verdict_judged(const struct node *n, struct verdict_kind k); /* there is something to judge it by */
/* Judges only to know later since when it is so. */
void verdicts_note(struct coord *c, struct node *n);
/* From our events: it was told that this verdict came then, or (0) is gone. */
void verdicts_told(struct coord *c, struct node *n, uint64_t key, int64_t wall_ms, const char *src, const char *brief);
void verdicts_on_skew(struct coord *c, struct node *n); /* the same, when its clock went wrong or right */

/* coord_hold.c */
void hold_verdicts(struct arena *a, struct coord *c, struct node *n, struct verdicts *v);

/* coord_checks.c */
void checks_note(struct coord *c, struct node *n); /* after each reading */
/* The best that its ports were seen at, to and from its row; forget: as they are now. */
void checks_best_save(struct coord *c, const struct node *n, struct rec_row_node *r);
int checks_best_load(struct node *n, const struct rec_row_node *r); /* -ENOMEM */
void checks_untally(struct coord *c, struct node *n); /* it is about to be taken out */
void checks_best_forget(struct coord *c, struct node *n);
void checks_fill(struct coord *c, struct node *n, struct verdict_in *in);
void checks_finish(struct coord *c);
void checks_node_finish(struct node *n);
void answer_checks(struct coord *c, struct clink *l, const struct rec_checks_get *g);

/* coord_readings.c */
void node_free(struct node *n);
void readings_registered(struct coord *c, struct node *n, bool probe, bool again);
void readings_on(struct coord *c, struct node *n, const struct msg *m);
void readings_on_ping(struct coord *c, struct node *n, const struct rec_ping *p);
void readings_deadlines(struct coord *c);
const struct rec_readings *node_readings(const struct node *n); /* NULL: none, or its link is gone */
const struct rec_source *readings_source(const struct rec_readings *r, const char *name);
bool node_is_ref(const struct coord *c, const struct node *n);

/* coord_gpus.c */
void gpus_forget(struct node *n); /* no reading shows any */
void gpus_find_siblings(struct coord *c, struct node *n); /* after each registration */
void gpus_note(struct coord *c, struct node *n); /* after each reading */
enum gpu_truth node_gpu_truth(const struct node *n);
const char *node_gpus_why(const struct node *n); /* GPU_UNKNOWN: a few words */
/* Masks of slots: that jobs may have at all; used by processes of no job; free. */
uint64_t node_gpus(const struct node *n);
uint64_t node_gpus_strange(struct coord *c, const struct node *n);
uint64_t node_gpus_free(struct coord *c, const struct node *n, bool strangers_too);
uint64_t node_gpu_bit(const struct node *n, const struct rec_gpu *g); /* 0: it has no slot */
int place_take_gpus(struct coord *c, struct place *p, uint64_t mask, uint32_t want); /* the first by index; 0 or -ENOMEM */
int place_load_gpus(struct place *p, const char *text, const char *ids); /* 0 or -ENOMEM */
void place_hold_loaded(struct coord *c, struct place *p);
void place_ended(struct coord *c, struct place *p); /* all of it is dead */
void place_hold(struct place *p);
void place_release(struct place *p);
void place_release_final(struct place *p); /* its job is over */
void place_gone_late(struct coord *c, struct place *p);
void gpus_told_anew(struct coord *c, struct node *n); /* what is alive there is told now */
void gpus_stale(struct coord *c, struct node *n, uint64_t job, uint32_t attempt);
void gpus_stale_ended(struct coord *c, struct node *n, uint64_t job, uint32_t attempt);
void places_free(struct place *v, size_t n);

int gpu_slot_named(const struct node *n, const char *id, size_t len); /* -1: none */
int gpu_slot_take(struct coord *c, struct node *n, const char *id, size_t len); /* made when there is none; -1: no room */

/* coord_clean.c */
char *clean_note(struct coord *c, struct place *p); /* before a job; NULL: no memory */
void clean_begin(struct coord *c, struct place *p, uint64_t job, bool started); /* after it */
void clean_look(struct coord *c, struct node *n);
void clean_forget(struct node *n, uint64_t slots);
void clean_loaded(struct coord *c, struct job *j);
void clean_deadlines(struct coord *c);
void clean_verdicts(struct arena *a, const struct node *n, struct verdicts *v);
uint64_t clean_left_by(const struct node *n);
bool clean_awaited(const struct job *j); /* some GPUs that it had are not seen to be as before */

/* coord_hang.c */
/* How far its ranks are is known anew. */
void hang_on_counts(struct coord *c, struct job *j);
void hang_on_pulse(struct coord *c, struct node *n, const struct msg *m);
void hang_deadline(struct coord *c, struct job *j);
/* Texts are borrowed from the job. */
void hang_fill(struct arena *a, const struct coord *c, const struct job *j, struct rec_job_info *i);
void hang_hide(struct rec_job_progress *p); /* what others than its owner are not told */
void hang_free(struct job *j);
void hang_on_stacks(struct coord *c, struct node *n, const struct rec_stacks *s);
void hang_fill_row(const struct job *j, struct rec_row_job *r);
void hang_load(struct job *j, const struct rec_row_job *r);
void hang_on_end(struct coord *c, struct job *j); /* the job is about to be ended */
/* coord_hung.c */
struct hang_out;
/* It is told, or known better; node: of the rank that is behind, or "". */
void hung_note(struct coord *c, struct job *j, const struct hang_out *out, const char *node, const char *threads);
void hung_over(struct coord *c, struct job *j); /* it goes on again */
void hung_counts(struct coord *c, struct job *j); /* keeps what RAS has counted */
struct rec_past_hang *hung_fill(struct arena *a, const struct job *j); /* NULL: there was none; texts are borrowed from the job */
void hung_load(struct coord *c, struct job *j, const struct rec_past_hang *r);
void hung_free(struct job *j);
int on_hang_from(const char *s); /* NULL: report; -1: no such word */
const char *on_hang_name(const struct job *j); /* NULL: report */

/* coord_base.c */
int base_load(struct coord *c, const struct msg *row, struct err *e);
void base_on_put(struct coord *c, struct clink *l, const struct rec_base_put *r);
void base_answer(struct coord *c, struct clink *l, const struct rec_base_get *g);
void base_free(struct coord *c);

/* coord_topology.c */
/* True: status follows when the node has answered, or has not in time. */
bool topology_asked(const struct coord *c, uint64_t link);
bool topology_ask(struct coord *c, struct clink *l, const struct rec_status_get *g, struct node *n);
void topology_on(struct coord *c, struct node *n, const struct rec_topology *t);
void topology_deadlines(struct coord *c);
void topology_free(struct coord *c);

/* coord_place.c */
/* 1: placed; 0: must wait (job->why says for what; the nodes that it waits for
 * are kept from those who come later); -EINVAL: can never be (e->text). */
int place_job(struct coord *c, struct job *j, struct err *e);
void place_reserve(struct coord *c, struct job *j); /* only keeps later ones away from its nodes */

/* coord_queue.c */
/* Before all queued jobs are placed anew, in order. */
void queue_begin(struct coord *c);
void queue_free(struct coord *c);
/* When this job, placed now, would surely be over; MONO_NEVER without a limit. */
mono_t job_would_end(const struct coord *c, const struct job *j);
/* When so many GPUs of the node are free at the latest ('free': those that are
 * now), if nobody else takes them; MONO_NEVER: nobody knows. */
mono_t node_free_at(struct coord *c, const struct node *n, uint64_t free, uint32_t want);

/* coord_jobs.c */
struct job *job_find(const struct coord *c, uint64_t id);
const char *job_state_name(enum job_state s);
/* What watchers and lists are told: only what a restart cannot take back. */
const char *job_shown_state(const struct job *j);
bool job_over(const struct job *j);
void job_free(struct coord *c, struct job *j);
/* As asked for, on no list yet. The plan of a job uses these four, too. */
struct job *job_new(struct coord *c, struct clink *l, const struct rec_submit *s, uint32_t uid);
bool job_stays_home(struct coord *c, struct clink *l, const struct rec_submit *s, uint32_t rid); /* false: refused */
void job_unplace(struct coord *c, struct job *j); /* gives back what place_job() has taken */
int job_alloc_ranks(struct job *j);
void rank_finish(struct rank *r);
void jobs_on_submit(struct coord *c, struct clink *l, const struct rec_submit *s);
void jobs_on_kill(struct coord *c, struct clink *l, const struct rec_kill *k);
void jobs_on_ranks(struct coord *c, struct node *n, const struct rec_ranks *r);
void jobs_on_ended(struct coord *c, struct node *n, const struct rec_ended *r);
void jobs_on_notice(struct coord *c, struct node *n, const struct rec_notice *r);
void jobs_on_stored(struct coord *c, const struct pending *p, int error, const char *text);
/* The node has registered, holding these. 'fresh': another incarnation than before. */
void jobs_node_up(struct coord *c, struct node *n, const struct rec_node_register *r, bool fresh);
void jobs_node_state(struct coord *c, struct node *n); /* became silent, down, heard again */
void jobs_node_lost(struct coord *c, struct node *n, const char *why);
void jobs_schedule(struct coord *c);
void jobs_deadlines(struct coord *c);
void job_changed(struct coord *c, struct job *j);
bool job_settled(const struct job *j);
bool job_may_settle(const struct job *j); /* but for its first cause, which must be on disk */
bool may_touch_job(const struct clink *l, uint32_t uid, const struct job *j);
/* Its ranks are there, or the node is kept for its restart. */
bool job_holds(struct job *j, const struct node *n);
/* True when this uid may not speak about job 'id' (j, or NULL): refused already. */
bool refuse_job(struct coord *c, struct clink *l, uint32_t rid, uint64_t id, const struct job *j,
		uint32_t uid);
/* The uid a request on this link speaks for; false (and refused) when it may not. */
bool request_uid(struct coord *c, struct clink *l, uint32_t rid, bool has_uid, uint32_t claimed,
		 uint32_t *ret);

/* coord_prepare.c */
/* Its nodes are chosen and stored: they are asked. */
/* Whom a job that is being prepared waits for, and what that one does; NULL: it is not long yet, or nobody. */
const char *prepare_waits(struct arena *a, const struct coord *c, const struct job *j);
void prepare_deadline(struct coord *c, struct job *j);
void job_go_prepare(struct coord *c, struct job *j);
/* What its nodes have said of the preparation is to be said anew. */
void job_unprepared(struct job *j);
void jobs_on_prepared(struct coord *c, struct node *n, const struct rec_prepared *p);
void jobs_on_proved(struct coord *c, struct node *n, const struct rec_proved *p);
void job_proof_deadline(struct coord *c, struct job *j);
/* Again, after they could not be stored. */
void job_store_leases(struct coord *c, struct job *j);
/* All is proved: starts, or waits until the leases are on disk. */
void job_go_start(struct coord *c, struct job *j);
bool job_all_places(const struct job *j, enum place_phase at_least);

/* coord_life.c */
struct place *job_place_of(struct job *j, const struct node *n, uint32_t *ret_rank);
void job_end(struct coord *c, struct job *j, uint32_t code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void job_store_end(struct coord *c, struct job *j);
bool job_open_at(struct job *j, const struct node *n, uint32_t attempt);
void jobs_stale(struct coord *c, struct node *n, uint64_t id, uint32_t attempt);
void job_end_stored(struct coord *c, struct job *j, int error);
void job_hurry(struct coord *c, struct job *j);
void job_check_final(struct coord *c, struct job *j);
void job_send_prepare(struct coord *c, struct job *j, uint32_t i);
void job_send_start(struct coord *c, struct job *j, uint32_t i);
void job_send_end(struct coord *c, struct job *j, uint32_t i);
void job_send_forget(struct coord *c, struct job *j, uint32_t i);
/* 'proved': nothing of it lives there. */
void job_lose_place(struct coord *c, struct job *j, uint32_t i, const char *why, bool proved);
void job_place_gone(struct coord *c, struct job *j, uint32_t i); /* a lost one: proved now */
void job_notice(struct coord *c, struct job *j, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void job_place_ended(struct coord *c, struct job *j, uint32_t i);
void life_send_end(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt,
		   uint32_t grace_ms, const char *why);
void life_send_forget(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt);
/* Place i is over: was it ended by itself? The first bad rank has decided before. */
void life_end_if_cut_short(struct coord *c, struct job *j, uint32_t i);
/* A bad rank while the job runs ends it: the first one decides. */
void life_judge(struct coord *c, struct job *j);

/* coord_restart.c */
void restart_free(struct job *j);
/* To be said before job_end(); of an attempt that is ending already the first cause stands. */
void restart_blame(struct job *j, enum end_cause cause, const struct node *n);
bool restart_node_failed(const struct job *j); /* an attempt that is over: it was lost with its node, or by the GPU */
/* As far as is known: another attempt may follow this one. */
bool restart_possible(const struct job *j);
int64_t restart_ran_ms(const struct coord *c, const struct job *j); /* this attempt, so far */
/* All places of its attempt are over. True: another one follows, and the job is not over. */
bool restart_next(struct coord *c, struct job *j);
void restart_stored(struct coord *c, struct job *j, int error);
/* That its attempt is over is on disk, and no other one has begun. */
bool restart_waits(const struct job *j);
bool restart_due(struct coord *c, struct job *j); /* queued: it may be placed now */
void restart_deadline(struct coord *c, struct job *j);
void restart_loaded(struct coord *c, struct job *j);
void restart_say_not(struct coord *c, struct job *j); /* why it is over though restarts are left */
void restart_note_end(struct coord *c, struct job *j); /* its last attempt joins the history */
void restart_drop_kept(struct coord *c, struct job *j);
struct place *job_kept_at(const struct job *j, const struct node *n); /* NULL: none */
bool restart_barred(const struct job *j, const struct node *n);
void restart_bar(struct coord *c, struct job *j, const char *node);
struct past *restart_past(struct coord *c, struct job *j);
const char *restart_why(struct arena *a, const struct coord *c, const struct job *j);
size_t restart_fill_past(struct arena *a, const struct job *j, struct rec_attempt_info **ret);
void restart_fill_info(struct arena *a, const struct job *j, struct rec_job_info *i);
void restart_fill_row(struct arena *a, const struct coord *c, const struct job *j, struct rec_row_job *r);
void restart_load(struct coord *c, struct job *j, const struct rec_row_job *r);

/* coord_events_job.c: it is shown in another state than before; told once of each attempt */
void events_job(struct coord *c, const struct job *j);
/* It hangs, for the first time in this attempt; node: of the rank that is behind, or NULL. */
void events_hang(struct coord *c, const struct job *j, const char *node);
void events_jobs_loaded(struct coord *c); /* ends that were not told before a crash */

/* coord_cause.c */
/* What its node says of one rank; only forward: a rank that is over stays as it is. */
void job_update_rank(struct coord *c, struct job *j, uint32_t node_rank,
		     const struct rec_rank_state *s);
bool rank_is_over(const struct rank *r);
const char *rank_state_name(int state);
int rank_state_from(const char *s); /* -1: no such state */
bool rank_bad(const struct rank *r); /* over, and not well */
uint32_t rank_code(const struct rank *r); /* the exit code it gives its job */
/* The rank whose end came first, of those that did not die of our own signal (or also those); -1: none. */
int64_t cause_find(const struct job *j, bool also_ours);
void cause_mark_either(struct job *j);
/* Something was reported while the job is being ended. */
void cause_improve(struct coord *c, struct job *j);
/* It can be told as settled, when that is on disk: then cause_settled(). */
void cause_settle(struct coord *c, struct job *j);
void cause_settled(struct coord *c, struct job *j, int error);
void cause_deadline(struct coord *c, struct job *j);
void cause_tell_death(struct coord *c, struct job *j, uint32_t rank);
void cause_lost_time(struct coord *c, const struct job *j, uint32_t place, struct rank *r);
void cause_fill_time(const struct coord *c, const struct rank *r, struct rec_rank_state *s);
int64_t cause_now_us(const struct coord *c); /* the wall clock */
/* What makes moments of our monotonic clock of those on disk, while our host runs. */
void cause_fill_clock(const struct coord *c, const struct job *j, struct rec_row_job *r);
void cause_loaded(struct coord *c, struct job *j, const struct rec_row_job *r);
void cause_first_event(struct coord *c); /* it is known what time it is */

/* coord_why.c */
/* "rank 3 (gpu02, GPU 1, pid 4711) exited with code 7: ..." */
void cause_say(const struct job *j, uint32_t rank, char *out, size_t size);
/* The same of the first, and who else may have been it. */
void why_of_first(const struct job *j, char *out, size_t size);
/* How the others ended, or NULL: there is no first, or no other. */
const char *why_others(struct arena *a, const struct job *j);

/* coord_evidence.c */
void evidence_on_happened(struct coord *c, struct node *n, const struct rec_happened *m);
/* Looks for what happened near the job's first end. */
void evidence_attach(struct coord *c, struct job *j);
void evidence_fill(const struct coord *c, const struct node *n, int64_t within_us, struct kmsg_seen ret[KMSG_KINDS_MAX]);
void evidence_gpu(struct rank *r, const struct place *p); /* a rank has just ended */

/* coord_story.c */
/* A moment of the job, by the coordinator's clock: 0 is now. node: or NULL. */
void job_tell(struct coord *c, struct job *j, const char *node, int64_t at_wall_us,
	      uint64_t error_us, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void story_node_state(struct coord *c, struct job *j, uint32_t i);
void story_nodes(const struct job *j, char *out, size_t size); /* "gpu[01-04]", or how many */
void story_fill(struct arena *a, const struct job *j, struct rec_moment **ret, size_t *ret_n);
void story_load(struct coord *c, struct job *j, const struct rec_moment *v, size_t n, uint32_t dropped);
void story_soon(struct coord *c, struct job *j); /* what was just told is written within a moment */
void story_saved(struct job *j); /* a row of the job with all of it is on its way */
void story_stored(struct coord *c, struct job *j, int error); /* one that was written for it alone */
void story_deadline(struct coord *c, struct job *j);
void story_free(struct job *j);
void story_fit(struct job *j); /* what it does not need is given back */

/* coord_answer.c */
void answer_status(struct coord *c, struct clink *l, const struct rec_status_get *g);
/* t: NULL when the node did not tell. */
void answer_one_node(struct coord *c, struct clink *l, const struct rec_status_get *g,
		     struct node *n, const struct rec_topology *t);
void answer_jobs(struct coord *c, struct clink *l, const struct rec_jobs_get *g);
void answer_watch(struct coord *c, struct clink *l, const struct rec_watch *w);
void answer_unwatch(struct coord *c, struct clink *l, const struct rec_unwatch *u);
void watch_free(struct coord *c, struct watch *w);
void watches_flush(struct coord *c);
/* Fills a record for messages; strings borrow from c and from *a. */
void fill_rank(struct arena *a, const struct coord *c, const struct job *j, uint32_t rank,
	       struct rec_rank_state *r);
void bare_workers(struct arena *a, struct rec_rank_state *r);
void fill_job(struct arena *a, struct coord *c, struct job *j, bool ranks, struct rec_job_info *i);
/* For lists: without what only the view of one job shows. 'mine': the asker may touch it. */
void fill_brief(struct arena *a, struct coord *c, struct job *j, bool mine, struct rec_job_info *i);
/* Answers must fit one frame: long ones are sent in pieces of so many bytes, half of
 * what a frame holds, or a little more. Weights say how long JSON may get, or more. */
#define PIECE_BYTES (512u << 10)
#define JOBS_A_PIECE 150
size_t text_weight(const char *s);
size_t job_weight(const struct rec_job_info *i); /* of fill_brief() */
/* Whose request it is: of a node's, whom it vouches for. */
uint32_t asker(const struct clink *l, uint32_t claimed);

/* coord_explain.c */
void explain_fill(struct arena *a, struct coord *c, struct job *j, struct rec_job_info *i);

/* coord_nccl.c */
void nccl_on_told(struct coord *c, struct node *n, const struct rec_job_nccl *m);
/* 'detail': of its nodes too, those in trouble first. */
/* Who has not come to NCCL's initialisation while others are in it, and the name of the node; false: nobody is known. */
bool nccl_late(const struct job *j, char *out, size_t size, const char **ret_node);
void nccl_fill_info(struct arena *a, const struct job *j, bool detail, struct rec_job_info *i);
void nccl_fill_row(struct arena *a, const struct job *j, struct rec_row_job *r);
void nccl_load(struct coord *c, struct job *j, const struct rec_row_job *r);
void nccl_squeeze(struct job *j); /* saved: the words remain */
void nccl_free(struct job *j);

/* May its RAS be asked? NULL, or why not: a sentence in the arena. */
const char *nccl_ras_forbidden(struct arena *a, const struct job *j);

/* coord_ras.c */
/* Something is suspicious: asks, unless it was asked a moment ago (30 s; 'hang': 5 s, six times in a row). */
void ras_suspect(struct coord *c, struct job *j, bool hang);
void ras_on_answer(struct coord *c, struct node *n, const struct rec_ras *m);
/* The last answer of this attempt, counts and all; NULL: none. polls: so many in a row had the same sum. */
const struct rec_ras_state *ras_last(const struct job *j, uint32_t *ret_polls, mono_t *ret_at);
void ras_fill_info(struct arena *a, const struct job *j, struct rec_job_info *i);
/* coord_flight.c: a question to the flight recorders of all ranks; *f is made when it is NULL */
struct flight_of_job;
void flight_free(struct flight_of_job *f);
void flight_begin(struct coord *c, const struct job *j, struct flight_of_job **f);
const char *flight_off_why(const struct flight_of_job *f); /* somebody said so; NULL: nobody */
bool flight_rests(const struct flight_of_job *f, mono_t now); /* somebody said so a moment ago */
bool flight_waits(const struct flight_of_job *f, mono_t now); /* for answers of some nodes that may still come */
bool flight_pending(const struct flight_of_job *f); /* for answers, however late */
uint32_t flight_unheard(const struct flight_of_job *f); /* nodes that have told nothing since the last question */
/* One node's answer. True: it was the last one. */
bool flight_part(struct coord *c, const struct job *j, const struct node *n, struct flight_of_job *f, const struct rec_ras_state *s);
/* All that is known, as an answer of RAS; in the arena. False: nothing is. */
bool flight_whole(struct arena *a, const struct flight_of_job *f, struct rec_ras_state *s);

/* Which rank of the job this process of that answer is, there 'told'; and on which node, or NULL; -1: not known. */
int64_t ras_rank(const struct job *j, const struct rec_ras_state *s, const char *host, uint32_t pid, uint32_t told,
		 const char **ret_node);
void ras_free(struct job *j);

/* coord_peers.c */
/* The nodes of an attempt in node rank order, NULL those that nobody knows any more; in the step's arena. */
size_t peers_nodes(struct coord *c, struct job *j, uint32_t attempt, struct node ***ret);
/* Where the job was submitted, and where copies lie: which nodes may fetch its specification. */
void peers_tell_source(struct coord *c, struct job *j);
/* The job's nodes: who may read its output. */
void peers_tell_places(struct coord *c, struct job *j);
/* It will be placed anew, perhaps elsewhere, and its watchers must be told so. */
void peers_unplaced(struct coord *c, struct job *j);
void peers_withdraw(struct coord *c, struct job *j); /* it has no nodes any more */
/* These were its places: who is none any more lets nobody in for it. */
void peers_moved(struct coord *c, struct job *j, const struct place *old, size_t n);
/* A node that has just registered: about all jobs. */
void peers_tell_all(struct coord *c, const struct node *n);
/* One node, about one job. */
void peers_tell(struct coord *c, const struct node *n, struct job *j);
void peers_check_keys(struct coord *c, const struct clink *l, const struct rec_node_register *r);
/* A node's watch has ended; told at the end of the step. */
void peers_unwatched(struct coord *c, struct job *j);
void peers_flush(struct coord *c);

/* coord_specs.c */
/* A node tells what it holds; then it hears what it must keep, or get. */
void specs_registered(struct coord *c, struct node *n, const struct rec_node_register *r);
/* It says that it has got a copy. */
void specs_kept(struct coord *c, struct node *n, const struct rec_spec_kept *m);
void specs_node_left(struct coord *c, const struct node *n);
/* Before the nodes of an attempt are told to prepare: who they will be sent to. */
void specs_choose(struct coord *c, struct job *j);
/* Whether this node hands out the specification, beside the one where it was submitted. */
bool specs_is_source(const struct job *j, const struct node *n);
/* Fills source, copies and what else 'prepare' says of it to the node of place i. */
void specs_fill(struct coord *c, struct job *j, uint32_t i, struct rec_prepare *p, struct rec_peer *source);
/* Nodes that are held beside the places get a copy ahead of time. */
void specs_to_spares(struct coord *c, struct job *j);
/* False: it waits for a node that has it (why says so), or nobody has it and it is over. */
bool specs_there(struct coord *c, struct job *j);
/* Could this node get it now? */
bool specs_reach(struct coord *c, const struct job *j, const struct node *n);
/* The job is over for good: to all that may hold it. */
void specs_over(struct coord *c, struct job *j);

/* coord_net.c */
bool net_known(struct coord *c, struct clink *l, const char *asked, uint32_t rid); /* false: refused */
void net_asked(struct coord *c, struct job *j, const char *asked, const char *const *yours, size_t n_yours);
void net_forget(struct coord *c, struct job *j); /* what was chosen for an earlier attempt */
/* Does it ask for InfiniBand; does it run better on nodes whose ports are well? */
bool net_wants_ib(const struct job *j);
bool net_minds_ports(const struct job *j);
bool net_node_good(const struct node *n); /* it has an Active port */
/* Before the ranks are started; notices follow. False: the job is refused, and ends. */
bool net_choose_job(struct coord *c, struct job *j);
void net_fill_start(struct coord *c, struct job *j, uint32_t i, struct rec_start *s);
/* Into messages and rows; borrowed. */
void net_fill(const struct job *j, struct rec_net_plan **ret, size_t *ret_n);
void net_load(struct coord *c, struct job *j, const struct rec_net_plan *p);
void net_free(struct job *j);
void net_on_plan(struct coord *c, struct clink *l, const struct rec_plan_get *g);

/* coord_history.c */
/* Places in 'ranks' of those that are kept, in order: all of a few, else the bad ones. */
size_t history_pick(const struct job *j, uint32_t ret[HISTORY_RANKS]);
/* Of a job that is over: how many of its ranks ended how. */
size_t history_fill_sums(struct arena *a, const struct job *j, struct rec_rank_sum **ret);
void history_squeeze(struct job *j); /* saved: the rest goes. Twice is harmless */
void history_load(struct coord *c, struct job *j, const struct rec_row_job *r);
void history_add(struct coord *c, struct job *j); /* it is saved, or was read from disk */
void history_loaded(struct coord *c); /* all are read: they are put in order */
void history_prune(struct coord *c, const struct job *just_ended); /* who has just ended stays; NULL: nobody */
void history_deadline(struct coord *c);

/* coord_rows.c */
void row_of_job(struct arena *a, struct coord *c, struct job *j, struct msg *m);
void persist_job(struct coord *c, struct action *p, struct job *j);
void persist_node(struct coord *c, struct action *p, const struct node *n);
/* Its key is out: in place of its row, or (false) no more. */
void persist_revoked(struct coord *c, struct action *p, const struct node *n, bool out);
void persist_token(struct coord *c, struct action *p, const struct token *t);
void persist_cluster(struct coord *c, struct action *p);

#endif
