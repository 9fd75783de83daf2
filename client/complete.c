/* complete.c - words for the completion of shells, see complete.h
 *
 * An agent whose coordinator is away holds a request for half a minute; a
 * person at a prompt waits for a second and a half at most. */
#include "client/complete.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/status.h"

#define PATIENCE_MS 1500

static void give_up(int sig)
{
	_exit(0);
}

static void be_quick_and_quiet(void)
{
	const struct itimerval t = { .it_value = { PATIENCE_MS / 1000, PATIENCE_MS % 1000 * 1000 } };
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		dup2(null, 2);
	signal(SIGALRM, give_up);
	setitimer(ITIMER_REAL, &t, NULL);
}

static void add_nodes(const struct ctl *c, struct buf *b)
{
	struct gathered g;

	if (status_get(c, &(struct status_wish){ 0 }, &g) != CTL_GO)
		return;
	for (size_t i = 0; i < g.all.u.status.n_nodes; i++)
		buf_addf(b, "%s\n", g.all.u.status.nodes[i].name);
	gather_finish(&g);
}

static void add_jobs(const struct ctl *c, struct buf *b, bool all)
{
	struct gathered g;
	struct msg m;

	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.all = all;
	if (ctl_ask_jobs(c, &m, &g) != CTL_GO)
		return;
	for (size_t i = 0; i < g.all.u.jobs.n_jobs; i++)
		buf_addf(b, "%" PRIu64 "\n", g.all.u.jobs.jobs[i].job);
	gather_finish(&g);
}

static void add_checks(const struct ctl *c, struct buf *b)
{
	struct gathered g;
	struct link l;
	struct msg m;

	if (ctl_connect(c, &l) != CTL_GO)
		return;
	msg_init(&m, MSG_checks_get);
	m.u.checks_get.rid = link_id(&l);
	m.u.checks_get.explain = true;
	if (ctl_gather(&l, &m, m.u.checks_get.rid, MSG_checks, &g) == CTL_GO) {
		for (size_t i = 0; i < g.all.u.checks.n_about; i++)
			buf_addf(b, "%s\n", g.all.u.checks.about[i].id);
		gather_finish(&g);
	}
	link_close(&l);
}

/* The word behind such an option is its value, not the job's command. */
static void add_with_value(const struct command *cmd, struct buf *b)
{
	for (const struct opt *t = cmd->opts; t->id; t++) {
		if (t->arg && t->letter)
			buf_addf(b, "-%c\n", t->letter);
		if (t->arg && t->name)
			buf_addf(b, "--%s\n", t->name);
	}
}

int complete(struct ctl *c, const char *what)
{
	struct buf b;

	c->cmd = &cmd_status; /* whose socket is the agent's */
	be_quick_and_quiet();
	buf_init(&b);
	if (strcmp(what, "nodes") == 0)
		add_nodes(c, &b);
	else if (strcmp(what, "jobs") == 0 || strcmp(what, "all-jobs") == 0)
		add_jobs(c, &b, what[0] == 'a');
	else if (strcmp(what, "checks") == 0)
		add_checks(c, &b);
	else if (strcmp(what, "launch-values") == 0)
		add_with_value(&cmd_launch, &b);
	write_all(1, b.data, b.len);
	buf_finish(&b);
	return 0;
}
