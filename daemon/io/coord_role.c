/* coord_role.c - the coordinator's process: loop, listeners, store around the pure core
 *
 * Start: lock and open the store, feed its rows to the core, listen, ready.
 * Stop (SIGTERM, SIGINT): links are closed, queued transactions are committed.
 * Jobs do not notice either; what the core decided is on disk before it acts. */
#include "io/coord_io.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/proc.h"
#include "io/sockets.h"

#define FINISH_MS 3000 /* links have 2 s for what is queued */
#define STATUS_MS 1000

/* ---- stepping ----------------------------------------------------------- */

/* What `systemctl status` shows. Counting takes time, so not with every step: the
 * nodes' heartbeats bring the next one. */
static void tell_status(struct coord_role *r, mono_t now)
{
	struct coord_counts n;

	if (r->notify.len == 0 || !mono_due(r->status_due, now))
		return;
	r->status_due = mono_add_ms(now, STATUS_MS);
	coord_count(r->core, &n);
	notify_status(&r->notify, "serving %s: %zu of %zu node%s ok, %zu job%s", r->address,
		      n.nodes_ok, n.nodes, n.nodes == 1 ? "" : "s", n.jobs, n.jobs == 1 ? "" : "s");
}

/* The step is incomplete, or cannot be written down: nothing of it has been said or done.
 * Whoever waits asks the next life, which begins with what is stored. */
void coord_no_memory(void)
{
	log_error("out of memory: the coordinator restarts; the database is right, jobs go on");
	_exit(71);
}

void coord_role_step(struct coord_role *r, struct coord_event *ev)
{
	ev->now = clock_mono();
	ev->wall_us = clock_wall_us();
	ev->wall_ms = ev->wall_us / 1000;
	random_fill(ev->random, sizeof(ev->random));
	assert(r->out.n == 0); /* actions never lead straight to another step */
	if (coord_step(r->core, ev, &r->out) < 0 || r->out.failed)
		coord_no_memory();
	if (r->out.invalid > 0)
		log_error("%u message(s) broke their own limits and were left out: a bug",
			  r->out.invalid);
	explicit_bzero(ev->random, sizeof(ev->random));
	r->asker = ev->type == CEV_MESSAGE ? ev->link : 0;
	coord_perform(r);
	actions_reset(&r->out);
	deadline_arm(&r->deadline, coord_deadline(r->core));
	tell_status(r, ev->now);
}

static void on_hook(void *arg, const char *text)
{
	struct coord_event ev = { .type = CEV_HOOK, .text = text };

	if (text)
		log_warn("%s", text);
	coord_role_step(arg, &ev);
}

static void on_deadline(void *arg)
{
	struct coord_event ev = { .type = CEV_DEADLINE };

	coord_role_step(arg, &ev);
}

static void on_stored(void *arg, uint64_t ticket, int error, const char *text)
{
	struct coord_event ev = {
		.type = CEV_STORED, .ticket = ticket, .error = error, .text = text,
	};

	if (error < 0)
		log_error("%s", text ? text : strerror(-error));
	coord_role_step(arg, &ev);
}

/* ---- stopping ----------------------------------------------------------- */

static void on_signal(uv_signal_t *s, int number)
{
	struct coord_role *r = s->data;

	if (r->stopping)
		return;

	/* below a supervisor the agents are told first, and end their jobs */
	log_info("stopping (%s)%s", strsignal(number), r->opts->parent_fd < 0 ? ": jobs go on" : "");
	notify_send(&r->notify, "STOPPING=1");
	uv_stop(&r->loop);
}

static void close_handle(void *h)
{
	/* Not every one was initialised: a start may fail early. */
	if (((uv_handle_t *)h)->loop)
		uv_close(h, NULL);
}

static void stop_watching(struct coord_role *r)
{
	close_handle(&r->term);
	close_handle(&r->intr);
	close_handle(&r->deadline.timer);
	close_handle(&r->parent);
	close_handle(&r->notify_timer.timer);
	close_handle(&r->stalls.timer);
}

/* What would have been written within a second. */
static void store_the_rest(struct coord_role *r)
{
	if (!r->core || !r->store)
		return;
	coord_stopping(r->core, &r->out);
	coord_perform(r);
	actions_reset(&r->out);
}

static void role_finish(struct coord_role *r)
{
	r->stopping = true;
	store_the_rest(r);
	hook_close(r->hook);
	r->hook = NULL;
	coord_links_close_all(r, "the coordinator stops");
	link_listener_close(r->tcp);
	link_listener_close(r->local);
	coord_users_destroy(r->users);
	store_close(r->store);
	stop_watching(r);
	loop_finish(&r->loop, FINISH_MS);
	coord_destroy(r->core);
	actions_finish(&r->out);
	tls_context_destroy(r->tls);
}

/* ---- starting ----------------------------------------------------------- */

static int load_row(void *arg, enum store_table table, const char *key, const char *json,
		    size_t len, struct err *e)
{
	struct coord_role *r = arg;
	struct err why;
	struct msg m;
	int rc = msg_decode(json, len, &m, &why);

	if (rc == 0) {
		rc = coord_load(r->core, &m, &why);
		msg_finish(&m);
	}
	if (rc < 0)
		return err_set(e, -rc, "%s/state.db: row '%s' makes no sense: %s",
			       r->opts->state_dir, key, why.text);
	return 0;
}

static int start_core(struct coord_role *r, struct err *e)
{
	const struct coord_opts *o = r->opts;
	char boot_id[37] = "";
	struct coord_conf conf = {
		.heartbeat_ms = o->heartbeat_ms,
		.unreachable_ms = o->unreachable_ms,
		.node_lost_ms = o->node_lost_ms,
		.prepare_ms = o->prepare_ms,
		.history = o->history_jobs,
		.history_days = o->history_days,
		.events_keep = o->events_keep,
		.events_days = o->events_days,
		.cordon_on_bad = o->cordon_on_bad,
		.cordon_lift_ms = o->cordon_lift_ms,
		.quarantine_after = o->quarantine_after,
		.quarantine_ms = o->quarantine_ms,
		.hook = o->hook != NULL,
		.address = r->address,
		.boot_id = boot_id,
		.sha256 = tls_sha256,
	};

	if (proc_boot_id(boot_id) != 0)
		boot_id[0] = '\0'; /* then no node is said to share our clock */
	r->core = coord_create(&conf, clock_mono());
	if (!r->core)
		return err_set(e, ENOMEM, "out of memory");
	return store_each(r->store, load_row, r, e);
}

/* What joining nodes are told; a wildcard listener is known by the host's name. */
static void find_address(struct coord_role *r, uint16_t port)
{
	const char *host = r->opts->listen_host;
	char name[256] = "localhost";

	if (r->opts->address) {
		snprintf(r->address, sizeof(r->address), "%s", r->opts->address);
		return;
	}
	if (!host || strcmp(host, "::") == 0 || strcmp(host, "0.0.0.0") == 0) {
		gethostname(name, sizeof(name) - 1);
		host = name;
	}
	socket_format_host_port(host, port, r->address, sizeof(r->address));
}

static int start_listening(struct coord_role *r, struct err *e)
{
	const struct coord_opts *o = r->opts;
	uint16_t port = o->port;
	int rc = link_listen_tls(&r->loop, r->tls, o->listen_host, &port, PENDING_MAX,
				 coord_links_admit, r, &r->tcp, e);

	if (rc == 0)
		rc = link_listen_unix(&r->loop, o->socket_path, 0666, coord_links_admit, r,
				      &r->local, e);
	if (rc == 0)
		find_address(r, port);
	return rc;
}

static void start_watching(struct coord_role *r)
{
	uv_signal_init(&r->loop, &r->term);
	uv_signal_init(&r->loop, &r->intr);
	r->term.data = r->intr.data = r;
	uv_signal_start(&r->term, on_signal, SIGTERM);
	uv_signal_start(&r->intr, on_signal, SIGINT);
	deadline_init(&r->loop, &r->deadline, on_deadline, r);
	parent_watch(&r->loop, &r->parent, r->opts->parent_fd);
	coord_limits_init(r);
}

/* The listeners are bound before the core is made (it is told our address)
 * but nobody is served before the loop runs, when all is there. */
static int role_start(struct coord_role *r, struct err *e)
{
	int rc = store_open(r->opts->state_dir, false, &r->store, e);

	if (rc == 0)
		rc = tls_context_create(r->opts->state_dir, &r->tls, e);
	if (rc == 0)
		rc = start_listening(r, e);
	if (rc == 0)
		rc = start_core(r, e);
	if (rc == 0)
		rc = store_start(r->store, &r->loop, on_stored, r, e);
	if (rc == 0 && r->opts->hook)
		rc = hook_create(&r->loop, r->opts->hook, on_hook, r, &r->hook, e);
	r->users = coord_users_create(&r->loop);
	if (rc == 0 && !r->users)
		rc = err_set(e, ENOMEM, "out of memory");
	return rc;
}

static void role_run(struct coord_role *r)
{
	char line[300];

	start_watching(r);
	coord_loaded(r->core, &r->out);
	coord_perform(r);
	actions_reset(&r->out);
	deadline_arm(&r->deadline, coord_deadline(r->core));

	log_info("serving nodes on %s, local clients on %s", r->address, r->opts->socket_path);
	snprintf(line, sizeof(line), "%s\n", r->address);
	ready_tell(r->opts->ready_fd, line);
	notify_start(&r->notify_timer, &r->loop, &r->notify);
	tell_status(r, clock_mono());
	uv_run(&r->loop, UV_RUN_DEFAULT);
}

int coord_run(const struct coord_opts *o)
{
	struct coord_role *r = calloc(1, sizeof(*r));
	struct err e = { 0 };
	int rc;

	if (!r)
		err_set(&e, ENOMEM, "out of memory");
	if (!r || loop_begin(&r->loop, &e) != 0) {
		log_error("%s", e.text);
		free(r);
		return 1;
	}

	notify_init(&r->notify);
	memory_frugal();
	setenv("UV_THREADPOOL_SIZE", "2", 0); /* name look-ups only; the store has its own thread */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* write says EFBIG: no worse than a full disk */
	r->opts = o;
	actions_init(&r->out);
	coord_links_init(r);
	rc = role_start(r, &e);
	if (rc < 0)
		log_error("%s", e.text);
	else
		role_run(r);
	role_finish(r);
	free(r);
	return rc < 0 ? 1 : 0;
}
