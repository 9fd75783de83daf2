/* confirm.h - is a process that a shim cannot kill what the shim says it is?
 *
 * A shim belongs to the job's user, who may trace it and have it say anything; and
 * a node with a process that cannot be killed gets no new jobs. So the agent looks
 * itself, in /proc: is it there, with that start time; is it the job's; has it got
 * its SIGKILL; and does it live in spite of it, held by the kernel and by no tracer?
 *
 * Not promised: that who is confirmed did not bring this about (a file system in
 * user space that does not answer holds its reader as a dead disk does); nor that
 * all are: where /proc hides the processes of others (hidepid) none is.
 */
#ifndef NA_IO_CONFIRM_H
#define NA_IO_CONFIRM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/arena.h"
#include "common/proc.h"
#include "proto/message.h"

struct confirm_job {
	uint32_t uid;
	struct proc_id shim; /* whom we, or the launcher, have started; start time 0: not known */
	pid_t said; /* its pid by its own word; 0: none */
	const char *cgroup; /* the name of its directory; "": it has none */
	const char *cookie; /* looked for where 'uid' is our own; "": not known */
};

/* What /proc/PID/task/TID/status and stat say of one thread. */
struct confirm_thread {
	char state;
	bool killed; /* SIGKILL is pending, or it is on its way out */
	uint32_t uid, saved_uid;
};

/* The text of a status file; false: it is none. 'exiting' is not in it. */
bool confirm_parse(const char *status, struct confirm_thread *ret);
/* All threads have got their SIGKILL, one lives, and none is held by a tracer. */
bool confirm_killed(const struct confirm_thread *v, size_t n);
/* Our own words, and the shim's for where it waits, which the kernel does not tell us. */
void confirm_text(char *out, size_t size, const char *seen, const char *said);

/* *ret is as we see it, its strings in the arena; false: it is not so. Reads /proc: for a thread of the pool. */
bool confirm_stuck(const struct confirm_job *j, const struct rec_stuck_proc *claim, struct arena *a,
		   struct rec_stuck_proc *ret);

struct agent_io;
struct action;
/* ACT_CONFIRM. Two looks, a moment apart: who is on the way out is none. */
void confirm_begin(struct agent_io *io, const struct action *a);

#endif
