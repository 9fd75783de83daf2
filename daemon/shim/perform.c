/* perform.c - the machine's actions, performed on the real system */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/spool.h"
#include "shim/check.h"
#include "shim/env.h"
#include "shim/host.h"
#include "shim/ifnames.h"
#include "shim/spawn.h"

mono_t host_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

int64_t host_wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t host_wall_ms(void)
{
	return host_wall_us() / 1000;
}

int64_t host_boot_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int host_poll(struct host *h, int fd, enum poll_kind kind, uint32_t index, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)kind << 32 | index };

	return epoll_ctl(h->ep, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void answer(struct host *h, struct shim_event ev)
{
	if (h->n_answers < sizeof h->answers / sizeof h->answers[0])
		h->answers[h->n_answers++] = ev;
}

/* ---- check ----------------------------------------------------------- */

static int read_spec(struct host *h, struct err *e)
{
	struct stat st;
	size_t len, got = 0;

	if (h->blob)
		return 0;
	if (fstat(FD_SPEC, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)SPEC_MAX)
		return err_set(e, EINVAL, "the job's specification did not reach the shim");
	len = (size_t)st.st_size;
	h->blob = malloc(len);
	if (!h->blob)
		return err_set(e, ENOMEM, "out of memory");

	while (got < len) {
		ssize_t n = pread(FD_SPEC, h->blob + got, len - got, (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, n ? errno : EIO,
				       "the job's specification cannot be read: %s",
				       strerror(n ? errno : EIO));
		got += (size_t)n;
	}
	close(FD_SPEC);
	return spec_decode(h->blob, len, &h->spec, e);
}

static const char *keep_text(struct host *h, const char *s)
{
	return s ? arena_strdup(&h->setup_arena, s) : NULL;
}

/* The setup's strings live in a message that goes away: keep them. */
static int keep_setup(struct host *h, const struct rec_shim_setup *setup, struct err *e)
{
	h->setup = *setup;
	h->setup.node = arena_strdup(&h->setup_arena, setup->node);
	h->setup.name = NULL;
	h->setup.gpus = keep_text(h, setup->gpus);
	h->setup.cpus = keep_text(h, setup->cpus);
	if (!h->setup.node || (setup->gpus && !h->setup.gpus) || (setup->cpus && !h->setup.cpus))
		return err_set(e, ENOMEM, "out of memory");
	output_set_rank_base(h->out, setup->rank_base);
	return 0;
}

/* The variables that rank 0's place and the ports come with are not known yet:
 * the longest ones count. */
static int check_size(struct host *h, uint32_t *ret_code, struct err *e)
{
	static const char wide[] = "0000:0000:0000:0000:0000:0000:0000:0000%0123456", *ras[] = { wide };
	char hcas[1912] = "NCCL_IB_HCA=";
	const char *net[] = { hcas };
	const struct rec_shim_go go = { .master_addr = wide, .master_port = 65535, .ifname = wide, .ras = ras,
					.n_ras = 1, .env = net, .n_env = 1 };
	struct env_job job = { h->job, h->attempt, h->cookie, &h->setup, &go, NULL, "/proc/4194304/fd/1048576" };
	struct env *env;
	struct room room;
	int r;

	memset(hcas + strlen(hcas), 'x', sizeof(hcas) - strlen(hcas) - 1);
	env = env_create(&h->spec, &job);
	if (!env)
		return err_set(e, ENOMEM, "out of memory");
	check_room_here(&room);
	r = check_room(&room, h->path, h->spec.argv, (const char *const *)env_rank(env, 0), e);
	if (r < 0)
		*ret_code = 126; /* as a shell that cannot execute it */
	env_destroy(env);
	return r;
}

static void do_check(struct host *h, const struct rec_shim_setup *setup)
{
	struct shim_event ev = { .type = SEV_CHECKED, .code = 1 };
	int r = keep_setup(h, setup, &h->err);
	bool remark = false;

	if (r == 0)
		r = read_spec(h, &h->err);
	if (r == 0)
		r = check_cwd(&h->spec, &h->err);
	if (r == 0)
		r = check_command(&h->spec, &h->path, &ev.code, &h->err);
	if (r == 0)
		r = check_size(h, &ev.code, &h->err);
	if (r == 0) {
		const char *const *env = h->spec.env;

		nccl_conf_read(env_get(env, "HOME"), env_get(env, "NCCL_CONF_FILE"), &h->nccl);
		remark = ifnames_judge_here(env, setup->nnodes > 1, h->err.text, sizeof(h->err.text));
	}
	ev.error = r;
	ev.text = r || remark ? h->err.text : NULL;
	answer(h, ev);
}

/* ---- start ----------------------------------------------------------- */

static void rank_failed(struct host *h, struct shim_rank_event *re, int error, const char *what)
{
	re->error = error;
	re->code = error == -ENOENT ? 127 : 126;
	re->text = arena_printf(&h->scratch, "%s: %s", what, strerror(-error));
	output_close(h->out, 2 * re->local, 0);
	output_close(h->out, 2 * re->local + 1, 0);
}

static int open_stream(struct host *h, uint32_t stream, int *ret_write_fd)
{
	int fd, r = output_open(h->out, stream, &fd, ret_write_fd);

	if (r < 0)
		return r;
	r = host_poll(h, fd, POLL_STREAM, stream, EPOLLIN);
	if (r < 0)
		close(*ret_write_fd);
	return r;
}

static int open_stdin(struct host *h, uint32_t local, int null_fd)
{
	int fd, r;

	if (local != 0 || !h->setup.with_stdin)
		return null_fd;
	r = feed_open(&h->feed, &fd);
	if (r == 0)
		r = host_poll(h, h->feed.fd, POLL_FEED, 0, 0); /* only: nobody reads any more */
	return r < 0 ? r : fd;
}

static void start_rank(struct host *h, struct spawn *sp, struct env *env, int null_fd,
		       struct shim_rank_event *re)
{
	int fds[3] = { -1, -1, -1 };
	pid_t pid = 0;
	int r;

	r = fds[0] = open_stdin(h, re->local, null_fd);
	if (r >= 0)
		r = open_stream(h, 2 * re->local, &fds[1]);
	if (r >= 0)
		r = open_stream(h, 2 * re->local + 1, &fds[2]);
	if (r < 0)
		rank_failed(h, re, r, "no pipe for the output");
	else
		pid = spawn_rank(sp, env_rank(env, re->local), fds);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0 && fds[i] != null_fd)
			close(fds[i]);
	if (pid < 0)
		rank_failed(h, re, pid, "the command could not be started");
	else
		re->pid = pid;
}

/* A disk that is full when the job ends must still hold how it ended. Where we
 * make the file ourselves, that is when nobody is there to be told: see
 * step_one(). */
static void reserve_status(const struct host *h)
{
	off_t room = 4096 + (off_t)h->nprocs * 192;

	if (h->status_fd >= 0 && fallocate(h->status_fd, FALLOC_FL_KEEP_SIZE, 0, room) < 0)
		return; /* not every file system can */
}

static void start_all(struct host *h, struct spawn *sp, struct env *env, int null_fd)
{
	bool any = false;

	for (uint32_t i = 0; i < h->nprocs; i++) {
		h->started[i] = (struct shim_rank_event){ .local = i };
		if (sp && env && null_fd >= 0)
			start_rank(h, sp, env, null_fd, &h->started[i]);
		else
			rank_failed(h, &h->started[i], -ENOMEM, "the rank could not be prepared");
		any = any || h->started[i].pid > 0;
	}
	answer(h, (struct shim_event){ .type = SEV_STARTED,
				       .ranks = h->started,
				       .n_ranks = h->nprocs,
				       .gone = !any });
}

static void do_start(struct host *h, const struct rec_shim_go *go)
{
	struct env_job job = { .job = h->job,
			       .attempt = h->attempt,
			       .cookie = h->cookie,
			       .setup = &h->setup,
			       .go = go,
			       .conf = &h->nccl };
	struct spawn *sp = spawn_create(h->path, h->spec.argv, &h->nofile, h->setup.cpus);
	struct env *env;
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	job.nccl_file = job_nccl_begin(h, go);
	env = env_create(&h->spec, &job);
	if (env)
		job_nccl_env(h, env);
	reserve_status(h);
	start_all(h, sp, env, null_fd);
	below_began(h);
	vitals_began(h);
	if (null_fd >= 0)
		close(null_fd);
	spawn_destroy(sp);
	env_destroy(env);
}

/* ---- end ------------------------------------------------------------- */

static void do_stuck(struct host *h)
{
	struct rec_stuck_proc v[16];
	struct msg m;

	msg_init(&m, MSG_shim_stuck);
	m.u.shim_stuck.procs = v;
	m.u.shim_stuck.n_procs = sweep_stuck(&h->scratch, v, 16);
	if (h->conn.fd >= 0 && !channel_send_msg(&h->conn, &m))
		answer(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}

static void do_close(struct host *h)
{
	int64_t wall_ms = host_wall_ms();

	for (uint32_t i = 0; i < 2 * h->nprocs; i++) {
		if (!output_is_open(h->out, i))
			continue;
		output_close(h->out, i, wall_ms);
		h->closed[h->n_closed++] =
			(struct shim_rank_event){ .local = i / 2,
						  .streams = 1,
						  .lost = output_lost(h->out, i / 2) };
	}
}

/* Not synced: it is for an agent that comes later, within this boot. After a
 * power failure nobody asks for it, and the sync took a tenth of a short job. */
static int write_all(int fd, const char *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, p + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}

static void do_write(struct host *h, const char *text, size_t len)
{
	int r;

	if (h->status_fd < 0)
		h->status_fd = spool_status(h->spool_fd);
	r = h->status_fd < 0 ? h->status_fd : write_all(h->status_fd, text, len);
	output_flush_stamps(h->out);
	if (chdir("/") < 0)
		r = r ? r : 0; /* we only keep a mount busy a little longer */
	answer(h, (struct shim_event){ .type = SEV_WRITTEN, .error = r });
}

/* ---- guard ------------------------------------------------------------ */

/* SIGKILL reaches a stopped process as well, and our end is that of the ranks
 * (PR_SET_PDEATHSIG). By system call: before glibc 2.34 the functions are in
 * another library. Where it cannot be had, only a shim that is stopped when its lease passes is late. */
static void do_guard(struct host *h, int64_t boot_ms)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec t = { .it_value = { boot_ms / 1000, boot_ms % 1000 * 1000000 } };

	if (!h->has_guard && boot_ms)
		h->has_guard = syscall(SYS_timer_create, CLOCK_BOOTTIME, &ev, &h->guard) == 0;
	if (h->has_guard)
		syscall(SYS_timer_settime, h->guard, TIMER_ABSTIME, &t, NULL);
}

/* ---- all of them ----------------------------------------------------- */

/* Whoever hears of an end may look at once: the stamps come first. */
static void send_text(struct host *h, const char *text, size_t len)
{
	output_flush_stamps(h->out);
	if (h->conn.fd >= 0 && !channel_send(&h->conn, text, len))
		answer(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}

static void perform(struct host *h, const struct shim_action *a)
{
	switch (a->type) {
	case SACT_SEND:
		send_text(h, a->text, a->len);
		break;
	case SACT_HANG_UP:
		channel_close(&h->conn);
		break;
	case SACT_CHECK:
		do_check(h, a->setup);
		break;
	case SACT_START:
		do_start(h, a->go);
		break;
	case SACT_SIGNAL:
		below_signal(h);
		sweep_signal_all(h->sweep, h->machine, h->nprocs, a->sig);
		break;
	case SACT_SWEEP:
		below_signal(h);
		sweep_signal(h->sweep, a->sig, true, NULL, NULL);
		break;
	case SACT_STUCK:
		do_stuck(h);
		break;
	case SACT_CLOSE:
		do_close(h);
		break;
	case SACT_GUARD:
		do_guard(h, a->boot_ms);
		break;
	case SACT_WRITE:
		do_write(h, a->text, a->len);
		break;
	case SACT_EXIT:
		h->done = true;
		break;
	case SACT_TYPE_COUNT:
		break;
	}
}

static void step_one(struct host *h, struct shim_event *ev)
{
	struct shim_actions acts;

	ev->now = host_now();
	ev->wall_us = host_wall_us();
	ev->wall_ms = ev->wall_us / 1000;
	ev->given = output_given(h->out);
	ev->holeless = output_holeless(h->out);
	ev->boot_ms = host_boot_ms();
	if (ev->type == SEV_AGENT_DOWN && h->status_fd < 0 && shim_running(h->machine) > 0) {
		h->status_fd = spool_status(h->spool_fd);
		reserve_status(h);
	}
	shim_actions_init(&acts);
	shim_step(h->machine, ev, &acts);
	for (size_t i = 0; i < acts.n; i++)
		perform(h, &acts.v[i]);
	shim_actions_finish(&acts);
}

void host_step(struct host *h, struct shim_event ev)
{
	step_one(h, &ev);
	while (h->n_answers) {
		ev = h->answers[0];
		h->n_answers--;
		memmove(h->answers, h->answers + 1, h->n_answers * sizeof ev);
		step_one(h, &ev);
	}
	arena_finish(&h->scratch);
}

void host_step_closed(struct host *h)
{
	while (h->n_closed) {
		struct shim_event ev = { .type = SEV_CLOSED,
					 .ranks = h->closed,
					 .n_ranks = h->n_closed };

		h->n_closed = 0;
		host_step(h, ev);
	}
}

size_t host_read(struct host *h, uint32_t stream, int64_t wall_ms, size_t max)
{
	bool closed;
	size_t n = output_read(h->out, stream, wall_ms, max, &closed);
	uint64_t lost = output_lost(h->out, stream / 2);

	if (lost > 0 && !closed && !h->lost_said[stream / 2]) {
		h->lost_said[stream / 2] = true;
		h->closed[h->n_closed++] = (struct shim_rank_event){ .local = stream / 2, .lost = lost };
	}
	if (closed)
		h->closed[h->n_closed++] =
			(struct shim_rank_event){ .local = stream / 2,
						  .streams = 1,
						  .lost = output_lost(h->out, stream / 2) };
	return n;
}

void host_grant(struct host *h, bool anew)
{
	struct msg m;
	struct rec_shim_stdin *s = &m.u.shim_stdin;

	if (!h->feed.used || h->conn.fd < 0)
		return;
	msg_init(&m, MSG_shim_stdin);
	s->credit = feed_grant(&h->feed, anew);
	if (h->feed.fd < 0)
		MSG_SET(s, shim_stdin, closed, true);
	if ((s->credit || (anew && s->closed)) && !channel_send_msg(&h->conn, &m))
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}
