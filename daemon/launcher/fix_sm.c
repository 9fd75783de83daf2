/* fix_sm.c - see fix_sm.h */
#include "launcher/fix_sm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct {
	uint64_t order; /* the last that has begun; 0: none, or one without a number */
	bool done;
	struct fix_sm_past past; /* when done */
	mono_t began[FIX_SM_MOST]; /* the latest first */
	unsigned n_began;
} F;

/* Whatever is of no use here must be absent: a request that carries more is not one of ours. */
static bool well_formed(const struct launcher_request *q)
{
	static const struct launcher_request none;

	return sm_unit_name(q->nprocs) && q->rank_base <= (1 | LAUNCHER_FIX_TELL) && q->attempt == 0 && q->uid == 0 &&
	       memcmp(q->user, none.user, sizeof q->user) == 0 && memcmp(q->cookie, none.cookie, sizeof q->cookie) == 0;
}

static int check_file(const char *path, struct err *e)
{
	struct stat st;
	int r = lstat(path, &st) < 0 ? errno : 0;

	if (r == ENOENT)
		return err_set(e, EPERM, "restarting the subnet manager is not allowed on this node; root allows it there "
			       "with: touch %s", path);
	if (r != 0)
		return err_set(e, EPERM, "%s, which would allow it, cannot be looked at: %s", path, strerror(r));
	if (!S_ISREG(st.st_mode) || !launch_roots_own(&st))
		return err_set(e, EPERM, "%s does not allow anything: it must be a file that only root can change", path);
	return launch_check_above(path, "permission", e) < 0 ? -EPERM : 0;
}

int fix_sm_formed(const struct launcher_request *q, struct err *e)
{
	return well_formed(q) ? 0 : err_set(e, EINVAL, "the request to restart the subnet manager is malformed");
}

int fix_sm_allowed(const struct policy *p, struct err *e)
{
	return check_file(p->fix_sm, e);
}

int fix_sm_begin(const struct launcher_request *q, mono_t now, struct err *e)
{
	int64_t left_s;

	if (F.n_began == FIX_SM_MOST) {
		left_s = FIX_SM_SPAN_S - mono_sub_ms(now, F.began[FIX_SM_MOST - 1]) / 1000;
		if (left_s > 0)
			return err_set(e, EBUSY, "the subnet manager was restarted %d times in the last %d minutes on this node; it may be "
				       "tried again in %lld s, or by root there: systemctl restart %s", FIX_SM_MOST, FIX_SM_SPAN_S / 60,
				       (long long)left_s, sm_unit_name(q->nprocs));
	}
	memmove(F.began + 1, F.began, sizeof F.began - sizeof *F.began);
	F.began[0] = now;
	if (F.n_began < FIX_SM_MOST)
		F.n_began++;
	F.order = q->job;
	F.done = false;
	return 0;
}

void fix_sm_end(const struct launcher_request *q, int error, uint32_t result, const char *text)
{
	if (F.order == 0 || q->job != F.order || F.done)
		return;
	F.done = true;
	F.past.error = error;
	F.past.result = result;
	snprintf(F.past.text, sizeof F.past.text, "%s", text ? text : "");
}

const struct fix_sm_past *fix_sm_past(uint64_t order)
{
	return F.order != 0 && order == F.order && F.done ? &F.past : NULL;
}

int fix_sm_run(const struct launcher_request *q, uint32_t *ret_result, char *text, size_t size)
{
	const char *unit = sm_unit_name(q->nprocs);
	struct sm_ran ran;
	struct err e;
	int r = sm_unit_restart(q->nprocs, (q->rank_base & 1) != 0, &ran, &e);

	if (r < 0) {
		*ret_result = ran.enabling ? LAUNCHER_ENABLING : 0;
		snprintf(text, size, "%.400s", e.text);
		return r;
	}
	*ret_result = ran.code | (ran.enabling ? LAUNCHER_ENABLING : 0);
	if (ran.code != 0)
		snprintf(text, size, "systemctl %s %s ended with %u%s%s", ran.enabling ? "enable" : "restart", unit, ran.code,
			 *ran.last ? ": " : "; see: journalctl -u ", *ran.last ? ran.last : unit);
	return 0;
}
