/* worker.c - see worker.h
 *
 * A rank that waits in vain says so at its deadline and gives its communicator
 * up; so at the conductor those that say nothing are the ones that hang.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/nccl_conf.h"
#include "common/nccl_log.h"
#include "nccl/gpu.h"
#include "nccl/wire.h"
#include "nccl/worker.h"

#define CONNECT_MS 60000
#define SILENCE_MS 600000 /* the conductor's longest: it waits for others, one after the other */

struct worker {
	const struct check_options *o;
	const struct check_rank *me;
	struct wire wire;
	struct library lib;
	struct gpu gpu;
	int log; /* NCCL's, a file in memory; -1: the user has one of their own */
	struct nccl_log before; /* as of when the communicator was made: numbers are of all there were */
	char log_path[64];
};

/* The shim's pipe (shim/nccl.h) is not the user's wish. */
static bool is_asked_for(void)
{
	const char *file = getenv("NCCL_DEBUG_FILE");
	static struct nccl_conf conf;

	if (file)
		return strncmp(file, "/proc/", 6) != 0;
	nccl_conf_read(getenv("HOME"), getenv("NCCL_CONF_FILE"), &conf); /* what we set would win over it */
	return getenv("NCCL_DEBUG") != NULL || nccl_conf_has(&conf, "NCCL_DEBUG") || nccl_conf_has(&conf, "NCCL_DEBUG_FILE");
}

/* NCCL's own words, in a file of our own, unless the user asked for them. */
static void redirect_log(struct worker *w)
{
	w->log = -1;
	if (is_asked_for())
		return;
	w->log = memfd_create("nccl.log", MFD_CLOEXEC);
	if (w->log < 0)
		return;
	snprintf(w->log_path, sizeof w->log_path, "/proc/self/fd/%d", w->log);
	setenv("NCCL_DEBUG", "INFO", 1);
	setenv("NCCL_DEBUG_SUBSYS", "INIT,BOOTSTRAP,ENV,NET", 0);
	setenv("NCCL_DEBUG_FILE", w->log_path, 1);
}

static void read_log(const struct worker *w, struct nccl_log *ret)
{
	FILE *f = w->log >= 0 ? fopen(w->log_path, "re") : NULL;
	char line[4096];

	*ret = (struct nccl_log){ .inits = 0 };
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f))
		nccl_log_line(ret, line, strcspn(line, "\n"));
	fclose(f);
}

static void member_str(struct jw *w, const char *key, const char *v)
{
	jw_key(w, key);
	jw_str(w, v);
}

static void member_uint(struct jw *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_uint(w, v);
}

/* NULL: the connection is as good as gone. */
static int reply(struct worker *w, struct buf *b, struct jw *j)
{
	int r;

	jw_end_obj(j);
	r = wire_send(&w->wire, b);
	buf_finish(b);
	return r;
}

static int reply_error(struct worker *w, int code, const struct err *e, const char *doing)
{
	struct nccl_log log;
	struct buf b;
	struct jw j;

	read_log(w, &log);
	buf_init(&b);
	wire_begin(&j, &b, code == -ETIMEDOUT ? "waits" : "fail");
	member_str(&j, "text", code == -ETIMEDOUT ? doing : e->text);
	if (log.trouble != NCCL_FINE && log.trouble != NCCL_OTHER)
		member_str(&j, "trouble", nccl_trouble_text(log.trouble));
	if (log.trouble != NCCL_FINE)
		member_str(&j, "said", log.text);
	return reply(w, &b, &j);
}

static void begin_who(struct worker *w, struct jw *j, struct buf *b, const char *what)
{
	buf_init(b);
	wire_begin(j, b, what);
	member_str(j, "job", w->me->job);
	member_uint(j, "rank", w->me->rank);
	member_uint(j, "local", w->me->local);
	member_uint(j, "pid", (uint64_t)getpid());
	member_str(j, "node", w->me->node);
}

/* Before CUDA is loaded: a GPU that is ill lets us hang there, and somebody should know who we are. */
static int say_here(struct worker *w)
{
	struct buf b;
	struct jw j;

	begin_who(w, &j, &b, "here");
	return reply(w, &b, &j);
}

static int say_hello(struct worker *w, const struct err *failed)
{
	struct buf b;
	struct jw j;

	begin_who(w, &j, &b, "hello");
	member_uint(&j, "nccl", (uint64_t)w->lib.nccl_version);
	member_str(&j, "nccl_path", w->lib.nccl_path);
	member_uint(&j, "cuda", (uint64_t)w->lib.cuda_runtime);
	member_uint(&j, "cuda_driver", (uint64_t)w->lib.cuda_driver);
	member_str(&j, "driver", w->lib.driver);
	member_str(&j, "gpu", w->gpu.name);
	member_str(&j, "pci", w->gpu.pci);
	if (failed->code)
		member_str(&j, "error", failed->text);
	return reply(w, &b, &j);
}

/* ---- what the conductor asks ---------------------------------------------------- */

static int on_id(struct worker *w, const cJSON *m)
{
	struct nccl_id id;
	char text[257];
	struct buf b;
	struct jw j;
	nccl_ret r = w->lib.ncclGetUniqueId(&id);

	(void)m;
	if (r != NCCL_OK) {
		struct err e;

		err_set(&e, EIO, "no id for a communicator: %s%s%.200s", w->lib.ncclGetErrorString(r),
			w->lib.ncclGetLastError ? ": " : "", w->lib.ncclGetLastError ? w->lib.ncclGetLastError(NULL) : "");
		return reply_error(w, -EIO, &e, "");
	}
	wire_id_text(&id, text);
	buf_init(&b);
	wire_begin(&j, &b, "id");
	member_str(&j, "id", text);
	return reply(w, &b, &j);
}

/* How data goes in this communicator: channels are made when first used. */
static void add_how(struct worker *w, struct jw *j)
{
	struct nccl_log log;

	read_log(w, &log);
	if (w->log < 0)
		return;
	member_str(j, "net", log.net);
	member_str(j, "via", log.socket_if);
	member_uint(j, "p2p", log.p2p - w->before.p2p);
	member_uint(j, "shm", log.shm - w->before.shm);
	member_uint(j, "sends", log.sends_net - w->before.sends_net);
	member_uint(j, "gdr", log.gdr - w->before.gdr);
	member_str(j, "ib_why", log.ib_disabled ? "NCCL_IB_DISABLE is set"
			      : log.no_ib_device ? "NCCL found no usable InfiniBand device" : log.ib_why);
}

static int say_ok(struct worker *w)
{
	struct buf b;
	struct jw j;

	buf_init(&b);
	wire_begin(&j, &b, "ok");
	return reply(w, &b, &j);
}

static int on_join(struct worker *w, const cJSON *m)
{
	struct nccl_id id;
	struct err e = { .code = 0 };
	int r;

	if (!wire_id_parse(wire_str(m, "id"), &id))
		return -EPROTO;
	read_log(w, &w->before);
	r = gpu_join(&w->gpu, &id, (uint32_t)wire_num(m, "n"), (uint32_t)wire_num(m, "rank"), (int)wire_num(m, "ms"), &e);
	return r == 0 ? say_ok(w) : reply_error(w, r, &e, "making the communicator");
}

static int on_operation(struct worker *w, const cJSON *m)
{
	enum op op = op_named(wire_str(m, "op"));
	struct op_result res = { .us = 0 };
	struct err e = { .code = 0 };
	uint32_t times = (uint32_t)wire_num(m, "times");
	struct buf b;
	struct jw j;
	int r;

	if (op == OP_N || w->gpu.comm == NULL)
		return -EPROTO;
	if (times > 0)
		r = gpu_time(&w->gpu, op, (size_t)wire_num(m, "bytes"), times, (int)wire_num(m, "ms"), &res, &e);
	else
		r = gpu_verify(&w->gpu, op, (size_t)wire_num(m, "bytes"), (int)wire_num(m, "ms"), &res, &e);
	if (r < 0)
		return reply_error(w, r, &e, op_name(op));
	buf_init(&b);
	wire_begin(&j, &b, "done");
	jw_key(&j, "us");
	jw_dbl(&j, res.us);
	member_uint(&j, "wrong", res.wrong);
	member_uint(&j, "first", res.first_wrong);
	if (times == 0)
		add_how(w, &j);
	return reply(w, &b, &j);
}

static int on_leave(struct worker *w, const cJSON *m)
{
	gpu_leave(&w->gpu, wire_num(m, "abort") != 0);
	return say_ok(w);
}

static const struct {
	const char *what;
	int (*f)(struct worker *w, const cJSON *m);
} handlers[] = { { "id", on_id }, { "join", on_join }, { "verify", on_operation }, { "time", on_operation },
		 { "leave", on_leave } };

/* The conductor speaks though it has no answer yet: it can only be "stop". It may have come together with the question. */
static bool is_told_to_stop(void *of)
{
	struct worker *w = of;
	struct pollfd p = { .fd = w->wire.fd, .events = POLLIN };

	return w->wire.in.len > 0 || poll(&p, 1, 0) > 0;
}

static int handle(struct worker *w, const cJSON *m)
{
	if (wire_is(m, "stop")) /* it came too late: the answer is on its way */
		return 0;
	for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++)
		if (wire_is(m, handlers[i].what))
			return handlers[i].f(w, m);
	return -EPROTO;
}

static int gone(const char *why)
{
	fprintf(stderr, "nodeagent-nccl: rank 0, which conducts the check, %s\n", why);
	return 4;
}

static int await_line(struct worker *w)
{
	struct pollfd p = { .fd = w->wire.fd, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, SILENCE_MS);
	while (r < 0 && errno == EINTR);
	return r == 0 ? -ETIMEDOUT : wire_fill(&w->wire);
}

static int obey(struct worker *w)
{
	for (;;) {
		bool bad;
		cJSON *m = wire_next(&w->wire, &bad);
		int r;

		if (bad) {
			cJSON_Delete(m);
			return gone("sends what is no message");
		}
		if (m == NULL) {
			r = await_line(w);
			if (r == -EAGAIN)
				continue;
			if (r <= 0)
				return gone(r == -ETIMEDOUT ? "is silent" : "has gone");
			continue;
		}
		if (wire_is(m, "quit")) {
			r = (int)wire_num(m, "code");
			cJSON_Delete(m);
			return r & 0xff;
		}
		r = handle(w, m);
		cJSON_Delete(m);
		if (r < 0)
			return gone("cannot be followed");
	}
}

int worker_run(const struct check_options *o, const struct check_rank *me)
{
	struct worker w = { .o = o, .me = me };
	struct err failed = { .code = 0 }, e;
	int fd, r;

	redirect_log(&w);
	r = wire_connect(me->address, me->port, CONNECT_MS, &fd, &e);
	if (r < 0) {
		fprintf(stderr, "nodeagent-nccl: %s\n", e.text);
		return 4;
	}
	wire_init(&w.wire, fd);
	r = say_here(&w);
	if (r == 0)
		r = library_load(&w.lib, o->prefix, &failed);
	if (r == 0)
		gpu_open(&w.gpu, &w.lib, (int)me->local, o->bytes, &failed);
	w.gpu.stop = is_told_to_stop;
	w.gpu.stop_of = &w;
	r = say_hello(&w, &failed) == 0 ? obey(&w) : gone("has gone");
	wire_finish(&w.wire);
	gpu_close(&w.gpu);
	return r;
}
