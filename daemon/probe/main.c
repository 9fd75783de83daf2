/* main.c - nodeagent-probe: reads the hardware, writes what it is to a descriptor
 *
 * A frame with everything that is known goes out at once when something of
 * interest has changed, and every 10 s in any case, which also says that the
 * probe is alive. It keeps no state that matters: whoever started it may end it
 * at any time, and does so when frames stay away.
 *
 * It ends by itself when nobody reads any more, and, with 3, when a source has
 * hung for longer than it was told to stand: a new process may get on with the
 * driver. Not while the source hangs inside the kernel: the process would not
 * end, and take the other sources' readings with it. Judges nothing, needs no
 * privileges, listens to nobody. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "hw/port_text.h"
#include "probe/compose.h"
#include "probe/out.h"
#include "proto/frame.h"
#include "proto/message.h"

#define EXIT_USAGE 2
#define EXIT_STUCK 3
#define HEARTBEAT_MS 10000
#define FIRST_MS 3000 /* for all sources to be read once; who is later comes later */
#define BURST_MS 100 /* between frames at least */
#define STALL_MS 60000 /* a reader that takes nothing for so long is given up */
#define EXCLUDE_MAX 256

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct probe {
	struct hw_options hw;
	const char *exclude[EXCLUDE_MAX];
	uint32_t fd;
	uint64_t patience_s; /* 0: without end */
	bool again; /* the process before was ended for a source that hung */
	struct sources sources;
	struct buf material, frame; /* of what was sent last */
	uint64_t devices;
	mono_t began, sent;
	mono_t want; /* GPUs read since then are to be sent; MONO_NEVER: when they change */
	bool sent_any, pending; /* pending: something has changed since */
};

static volatile sig_atomic_t asked; /* SIGUSR1: a frame with GPUs read from now on is wanted */
static int wake_fd = -1;

static void on_asked(int sig)
{
	const uint64_t one = 1;
	int saved = errno; // NOLINT(bugprone-signal-handler,cert-sig30-c): a variable of this thread

	asked = 1;
	if (write(wake_fd, &one, sizeof one) < 0)
		asked = 1; /* full: it is awake */
	errno = saved; // NOLINT(bugprone-signal-handler,cert-sig30-c)
}

/* Each time: a driver's library was met that takes all signals when it is opened. */
static void hear_asked(void)
{
	signal(SIGUSR1, on_asked);
}

static struct source *find_source(struct probe *p, const struct hw_ops *ops)
{
	for (size_t i = 0; i < p->sources.n; i++)
		if (p->sources.list[i].ops == ops)
			return &p->sources.list[i];
	return NULL;
}

/* ---- what to send, and when ----------------------------------------------- */

/* Compares with what was sent last, and keeps the new text for the next time. */
static bool is_material(struct probe *p, mono_t now)
{
	struct buf b;
	bool changed;

	buf_init(&b);
	if (compose(&p->sources, COMPOSE_MATERIAL, now, &b, NULL) < 0) {
		buf_finish(&b);
		return false; /* no memory: the next one will do */
	}
	changed = b.len != p->material.len || memcmp(b.data, p->material.data, b.len) != 0;
	buf_finish(&p->material);
	p->material = b;
	return changed;
}

static int send_frame(struct probe *p, mono_t now)
{
	char head[FRAME_HEADER];
	struct err e;
	int r;

	buf_reset(&p->frame);
	if (!buf_reserve(&p->frame, FRAME_HEADER))
		return -ENOMEM;
	p->frame.len += FRAME_HEADER;
	r = compose(&p->sources, COMPOSE_ALL, now, &p->frame, &e);
	if (r < 0) {
		log_error("%s", e.text);
		return r;
	}
	frame_put_header(head, FRAME_JSON, (uint32_t)(p->frame.len - FRAME_HEADER));
	memcpy(p->frame.data, head, FRAME_HEADER);
	p->sent = now;
	p->sent_any = true;
	p->pending = false;
	return out_write((int)p->fd, p->frame.data, p->frame.len, STALL_MS);
}

static bool due(const struct probe *p, mono_t now)
{
	if (!p->sent_any)
		return sources_complete(&p->sources) || mono_due(mono_add_ms(p->began, FIRST_MS), now);
	return mono_due(mono_add_ms(p->sent, p->pending ? BURST_MS : HEARTBEAT_MS), now);
}

static int until_due(struct probe *p, mono_t now)
{
	mono_t look = sources_look(&p->sources, now);
	int64_t ms = HEARTBEAT_MS;

	if (!p->sent_any)
		ms = FIRST_MS - mono_sub_ms(now, p->began);
	else if (p->pending)
		ms = BURST_MS - mono_sub_ms(now, p->sent);
	else
		ms -= mono_sub_ms(now, p->sent);
	if (mono_before(look, mono_add_ms(now, ms)))
		ms = mono_sub_ms(look, now);
	return ms < 0 ? 0 : (int)ms + 1;
}

/* The topology is read again when devices come or go, and else only once. */
static void watch_devices(struct probe *p)
{
	uint64_t devices = compose_devices(&p->sources);
	struct source *topology = find_source(p, &hw_topology);

	if (p->sent_any && devices != p->devices && topology)
		sources_wake(topology);
	p->devices = devices;
}

/* Somebody waits for how the GPUs are now, be it as before. */
static void heed(struct probe *p, mono_t now)
{
	struct source *nvml = find_source(p, &hw_nvml);

	hear_asked();
	if (asked) {
		asked = 0;
		p->want = nvml ? now : MONO_NEVER;
		if (nvml)
			sources_wake(nvml);
	}
	if (nvml && nvml->taken && !mono_before(nvml->taken_at, p->want)) {
		p->want = MONO_NEVER;
		p->pending = true;
	}
}

static int step(struct probe *p)
{
	mono_t now = hw_now();
	const char *stuck;

	if (sources_take(&p->sources, now)) {
		watch_devices(p);
		p->pending = is_material(p, now) || p->pending;
	}
	heed(p, now);
	stuck = p->patience_s ? sources_overdue(&p->sources, (int64_t)p->patience_s * 1000, now) : NULL;
	if (stuck) {
		log_error("%s has not answered for %llu s: ending, to be started anew", stuck,
			  (unsigned long long)p->patience_s);
		return -ETIME;
	}
	return due(p, now) ? send_frame(p, now) : 0;
}

static int loop(struct probe *p)
{
	struct pollfd fds[2] = {
		{ .fd = p->sources.notify_fd, .events = POLLIN },
		{ .fd = (int)p->fd }, /* errors only */
	};
	int r = 0;

	p->began = hw_now();
	while (r >= 0) {
		if (poll(fds, 2, until_due(p, hw_now())) < 0 && errno != EINTR)
			return -errno;
		if (out_gone(fds[1].revents))
			return 0;
		r = step(p);
		if (r == -ENOMEM)
			r = 0;
	}
	if (r == -EPIPE)
		return 0;
	if (r == -ETIME)
		return r;
	log_error("nobody takes the readings: %s", strerror(-r));
	return r;
}

/* ---- start ---------------------------------------------------------------- */

static void limit(int what, rlim_t most)
{
	struct rlimit r;

	if (getrlimit(what, &r) < 0)
		return;
	if (r.rlim_max > most)
		r.rlim_max = most;
	if (r.rlim_cur > r.rlim_max)
		r.rlim_cur = r.rlim_max;
	setrlimit(what, &r);
}

/* A library gone wild must not take the node with it. */
static void set_limits(void)
{
	limit(RLIMIT_NOFILE, 1024);
	limit(RLIMIT_CORE, 0);
	if (!SANITIZED)
		limit(RLIMIT_DATA, (rlim_t)2 << 30);
	mallopt(M_ARENA_MAX, 1); /* a few threads that seldom allocate */
}

static void close_others(int keep)
{
#ifdef SYS_close_range
	if (keep > 3)
		syscall(SYS_close_range, 3u, (unsigned)keep - 1, 0);
	if (syscall(SYS_close_range, keep < 3 ? 3u : (unsigned)keep + 1, ~0u, 0) == 0)
		return;
#endif
	for (int fd = 3, max = (int)sysconf(_SC_OPEN_MAX); fd < max; fd++)
		if (fd != keep)
			close(fd);
}

static const char usage[] =
	"usage: nodeagent-probe [--sysfs-root ROOT] [--exclude DEV,DEV...] [--nvml PATH] [--kmsg PATH]\n"
	"                       [--patience S] [--again] [--launcher]\n"
	"                       [--fd N]\n"
	"\n"
	"Reads InfiniBand ports, GPUs, topology and clock, and writes frames of JSON to a\n"
	"descriptor. nodeagentd starts it; by hand it serves to look at what it sees.\n"
	"\n"
	"  --sysfs-root ROOT  reads ROOT/class/infiniband/... in place of /sys/class/...;\n"
	"                     verbs are not used then\n"
	"  --exclude DEVS     RDMA devices that are shown but not asked anything\n"
	"  --nvml PATH        library to use in place of libnvidia-ml.so.1\n"
	"  --kmsg PATH        file to read in place of /dev/kmsg\n"
	"  --launcher         jobs are started by another program: limits are not read\n"
	"  --patience S       ends with 3 when a source has hung for S seconds (0: never)\n"
	"  --again            a source has hung in the process before: no time is given\n"
	"                     to a driver that starts\n"
	"  --fd N             descriptor to write to (1)\n";

static bool take_exclude(struct probe *p, char *list)
{
	char *save = NULL;

	for (char *dev = strtok_r(list, ",", &save); dev; dev = strtok_r(NULL, ",", &save)) {
		if (p->hw.n_exclude == EXCLUDE_MAX)
			return false;
		p->exclude[p->hw.n_exclude++] = dev;
	}
	return true;
}

enum { OPT_SYSFS = 256, OPT_EXCLUDE, OPT_NVML, OPT_KMSG, OPT_PATIENCE, OPT_AGAIN, OPT_LAUNCHER, OPT_FD, OPT_HELP, OPT_VERSION };

static const struct option options[] = {
	{ "sysfs-root", required_argument, NULL, OPT_SYSFS },
	{ "exclude", required_argument, NULL, OPT_EXCLUDE },
	{ "nvml", required_argument, NULL, OPT_NVML },
	{ "kmsg", required_argument, NULL, OPT_KMSG },
	{ "patience", required_argument, NULL, OPT_PATIENCE },
	{ "again", no_argument, NULL, OPT_AGAIN },
	{ "launcher", no_argument, NULL, OPT_LAUNCHER },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

/* -1: go on; else the exit code. */
static int take_option(struct probe *p, int option)
{
	uint64_t fd;

	switch (option) {
	case OPT_SYSFS:
		p->hw.sysfs = optarg;
		return -1;
	case OPT_EXCLUDE:
		return take_exclude(p, optarg) ? -1 : EXIT_USAGE;
	case OPT_NVML:
		p->hw.nvml = optarg;
		return -1;
	case OPT_KMSG:
		p->hw.kmsg = optarg;
		return -1;
	case OPT_PATIENCE:
		return text_number(optarg, 1000000, &p->patience_s) ? -1 : EXIT_USAGE;
	case OPT_AGAIN:
		p->again = true;
		return -1;
	case OPT_LAUNCHER:
		p->hw.others_start_jobs = true;
		return -1;
	case OPT_FD:
		if (!text_number(optarg, 65535, &fd) || fd == 0)
			return EXIT_USAGE;
		p->fd = (uint32_t)fd;
		return -1;
	case OPT_HELP:
		return fputs(usage, stdout) < 0;
	case OPT_VERSION:
		return printf("nodeagent-probe %s\n", NA_SOFTWARE) < 0;
	default:
		return EXIT_USAGE;
	}
}

static int parse_args(struct probe *p, int argc, char **argv)
{
	int option, rc = -1;

	p->fd = 1;
	p->hw.exclude = p->exclude;
	if (SANITIZED) /* tests of whoever starts us */
		p->hw.nvml = getenv("NODEAGENT_NVML");
	while (rc < 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		rc = take_option(p, option);
	if (rc < 0 && optind < argc)
		rc = EXIT_USAGE;
	if (rc < 0 && fcntl((int)p->fd, F_GETFD) < 0) {
		fprintf(stderr, "nodeagent-probe: descriptor %u is not open\n", p->fd);
		return EXIT_USAGE;
	}
	if (rc == EXIT_USAGE)
		fputs(usage, stderr);
	return rc;
}

static void hear_asking(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(how, &set, NULL);
}

static const struct hw_ops *const all_sources[] = { &hw_ports, &hw_nvml, &hw_host, &hw_topology,
						    &hw_kmsg,  NULL };

int main(int argc, char **argv)
{
	static struct probe p;
	int r = parse_args(&p, argc, argv);

	if (r >= 0)
		return r;
	log_setup("probe", LOG_LVL_INFO);
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* the parent may be gone by now: then nobody reads */
	signal(SIGPIPE, SIG_IGN);
	hear_asking(SIG_BLOCK); /* no source's thread is to be disturbed in a driver call */
	close_others((int)p.fd);
	set_limits();
	buf_init(&p.material);
	buf_init(&p.frame);
	r = sources_start(&p.sources, all_sources, &p.hw, p.again);
	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		return 1;
	}
	p.want = MONO_NEVER;
	wake_fd = p.sources.notify_fd;
	hear_asked();
	hear_asking(SIG_UNBLOCK);
	r = loop(&p);
	if (r == -ETIME)
		_exit(EXIT_STUCK);
	if (!sources_stop(&p.sources)) /* its thread would run on in what we freed */
		_exit(r < 0);
	buf_finish(&p.material);
	buf_finish(&p.frame);
	return r < 0;
}
