/* orphans.c - see orphans.h */
#include "common/orphans.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/left.h"
#include "common/proc_sys.h"

#define OTHERS_WAIT_MS 1000 /* for one that another sweep has hit */
#define TOLD_MAX 3

struct met {
	struct proc_id id;
	struct proc_id shim; /* whose sweep it was */
	int64_t at_ms;
	int error; /* of the last signal, -errno */
	bool spared;
};

struct pass {
	struct orphans *o;
	struct orphan_sweep *s;
	pid_t session; /* ours */
	int64_t now_ms;
	int alive;
};

static bool same(const struct proc_id *a, const struct proc_id *b)
{
	return a->pid == b->pid && a->start_time == b->start_time;
}

static size_t n_met(const struct orphans *o)
{
	return o->met.len / sizeof(struct met);
}

static struct met *nth(const struct orphans *o, size_t i)
{
	return (struct met *)(void *)o->met.data + i; /* malloc's, so aligned */
}

static void count_child(void *arg, const struct proc_stat *child)
{
	struct orphans *o = arg;

	if (!child->dead && !o->started(child->pid, child->start_time))
		o->doubt = "it was started by a process that had other children, and cannot tell theirs";
}

void orphans_init(struct orphans *o, bool (*started)(pid_t pid, uint64_t start_time))
{
	*o = (struct orphans){ .started = started };
	buf_init(&o->met);
	if (proc_sys_self() == 1)
		o->doubt = "it is process 1, to which all orphans come";
	else if (proc_children(proc_sys_self(), count_child, o) < 0)
		o->doubt = "it could not look for children that it was started with";
}

void orphans_finish(struct orphans *o)
{
	buf_finish(&o->met);
}

/* The dead are counted by the sweep that has hit them. */
static void forget_the_dead(struct pass *p)
{
	size_t kept = 0, n = n_met(p->o);

	for (size_t i = 0; i < n; i++) {
		struct met *m = nth(p->o, i);

		if (!proc_dead(m->id.pid, m->id.start_time))
			*nth(p->o, kept++) = *m;
		else if (same(&m->shim, &p->s->shim) && !m->spared && m->error == 0)
			p->s->killed++;
	}
	p->o->met.len = kept * sizeof(struct met);
}

static struct met *meet(struct pass *p, const struct proc_stat *st)
{
	struct met new = { { st->pid, st->start_time }, p->s->shim, p->now_ms, 0, p->o->doubt != NULL };

	for (size_t i = 0; i < n_met(p->o); i++)
		if (same(&nth(p->o, i)->id, &new.id))
			return nth(p->o, i);
	buf_add(&p->o->met, &new, sizeof(new));
	return buf_failed(&p->o->met) ? NULL : nth(p->o, n_met(p->o) - 1);
}

static void on_child(void *arg, const struct proc_stat *st)
{
	struct pass *p = arg;
	struct met *m;

	if (p->o->started(st->pid, st->start_time))
		return;
	if (st->dead) {
		waitpid(st->pid, NULL, WNOHANG);
		return;
	}
	/* a shim and its ranks have sessions of their own, and nobody can enter ours */
	if (st->start_time < p->s->shim.start_time || st->session == p->session)
		return;
	m = meet(p, st);
	if (m == NULL || m->spared)
		return;
	if (!st->exiting)
		m->error = proc_signal(st->pid, st->start_time, SIGKILL);
	if (m->error == -ESRCH)
		m->error = 0; /* it went meanwhile */
	if (m->error == 0 && (same(&m->shim, &p->s->shim) || p->now_ms - m->at_ms < OTHERS_WAIT_MS))
		p->alive++;
}

int orphans_pass(struct orphans *o, struct orphan_sweep *s)
{
	struct pass p = { .o = o, .s = s, .session = getsid(0), .now_ms = proc_sys_ms() };
	int rc;

	if (s->shim.start_time == 0)
		return 0;
	rc = proc_children(proc_sys_self(), on_child, &p);
	forget_the_dead(&p);
	if (buf_failed(&o->met)) {
		buf_reset(&o->met);
		rc = -ENOMEM;
	}
	return rc < 0 ? rc : p.alive;
}

/* Appends as far as there is room. */
static void tell_one(const struct met *m, char *out, size_t size)
{
	size_t n = strlen(out);
	char who[48];

	proc_tell(m->id.pid, m->id.start_time, who);
	snprintf(out + n, size - n, "%s%s %s%s%s", n > 0 ? "; " : "", who,
		 m->spared ? "may be of the job and was left alone" : "could not be ended",
		 m->error ? ": " : "", m->error ? strerror(-m->error) : "");
}

void orphans_tell(const struct orphans *o, const struct orphan_sweep *s, char *out, size_t size)
{
	size_t told = 0, n;
	bool spared = false;

	out[0] = '\0';
	for (size_t i = 0; i < n_met(o); i++) {
		struct met *m = nth(o, i);

		if (!same(&m->shim, &s->shim) || proc_dead(m->id.pid, m->id.start_time))
			continue;
		if (told++ < TOLD_MAX)
			tell_one(m, out, size);
		spared = spared || m->spared;
	}
	n = strlen(out);
	if (told > TOLD_MAX)
		snprintf(out + n, size - n, "; the same for %zu more", told - TOLD_MAX);
	n = strlen(out);
	if (spared)
		snprintf(out + n, size - n, " (who starts shims here does not end it: %s)", o->doubt);
}

void orphans_left(const struct orphans *o, const struct orphan_sweep *s, char *lines, size_t size)
{
	for (size_t i = 0; i < n_met(o); i++) {
		struct met *m = nth(o, i);

		if (same(&m->shim, &s->shim) && !m->spared && (m->error == 0 || m->error == -EPERM))
			left_add(lines, size, &m->id);
	}
}
