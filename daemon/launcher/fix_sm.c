/* fix_sm.c - see fix_sm.h */
#include "launcher/fix_sm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Whatever is of no use here must be absent: a request that carries more is not one of ours. */
static bool well_formed(const struct launcher_request *q)
{
	static const struct launcher_request none;

	return sm_unit_name(q->nprocs) && q->rank_base <= 1 && q->job == 0 && q->attempt == 0 && q->uid == 0 &&
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

int fix_sm_allowed(const struct policy *p, const struct launcher_request *q, struct err *e)
{
	if (!well_formed(q))
		return err_set(e, EINVAL, "the request to restart the subnet manager is malformed");
	return check_file(p->fix_sm, e);
}

int fix_sm_run(const struct launcher_request *q, uint32_t *ret_result, char *text, size_t size)
{
	const char *unit = sm_unit_name(q->nprocs);
	struct sm_ran ran;
	struct err e;
	int r = sm_unit_restart(q->nprocs, q->rank_base == 1, &ran, &e);

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
