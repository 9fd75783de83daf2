/* cast.c - see cast.h */
#include "nccl/cast.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LAST_WORDS_MS 300 /* of ranks, after we were told to end */
#define STRANGERS 64 /* connections that have not said who they are */
#define ENDING_MS 1000

struct stranger {
	struct wire wire;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int cast_init(struct cast *c, uint32_t world, const char *job, int listener)
{
	*c = (struct cast){ .world = world, .job = job, .listener = listener };
	c->players = calloc(world, sizeof *c->players);
	c->nodes = calloc(world, sizeof *c->nodes);
	if (c->players == NULL || c->nodes == NULL) {
		cast_finish(c);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < world; i++)
		wire_init(&c->players[i].wire, -1);
	return 0;
}

void cast_finish(struct cast *c)
{
	for (uint32_t i = 0; c->players != NULL && i < c->world; i++) {
		wire_finish(&c->players[i].wire);
		cJSON_Delete(c->players[i].here);
		cJSON_Delete(c->players[i].hello);
		cJSON_Delete(c->players[i].reply);
	}
	free(c->players);
	free(c->nodes);
	c->players = NULL;
	c->nodes = NULL;
	if (c->listener >= 0)
		close(c->listener);
	c->listener = -1;
}

bool cast_is_able(const struct cast *c, uint32_t rank)
{
	const struct player *p = &c->players[rank];

	return p->hello != NULL && !p->gone && !p->silent;
}

const char *cast_name(const struct cast *c, uint32_t rank)
{
	static char texts[8][160];
	static unsigned next;
	const struct player *p = &c->players[rank];
	const cJSON *who = p->hello != NULL ? p->hello : p->here;
	char *out = texts[next++ % 8];

	if (who == NULL)
		snprintf(out, sizeof texts[0], "rank %u", rank);
	else
		snprintf(out, sizeof texts[0], "rank %u (%.64s, GPU %u, pid %u)", rank, wire_str(who, "node"),
			 (unsigned)wire_num(who, "local"), (unsigned)wire_num(who, "pid"));
	return out;
}

/* ---- coming ------------------------------------------------------------------- */

static void lose(struct cast *c, struct player *p)
{
	if (!p->gone)
		p->gone_as = ++c->n_gone;
	p->gone = true;
	p->asked = false;
}

/* "here", or the hello itself, of this job, from a rank that was not heard of yet. */
static bool is_welcome(const struct cast *c, const cJSON *m)
{
	double rank = wire_num(m, "rank");

	return (wire_is(m, "here") || wire_is(m, "hello")) && strcmp(wire_str(m, "job"), c->job) == 0 && rank >= 0 &&
	       rank < c->world && c->players[(uint32_t)rank].hello == NULL && c->players[(uint32_t)rank].here == NULL &&
	       wire_str(m, "node")[0] != '\0';
}

/* What one who is here says next is its hello. */
static void take_hello(struct cast *c, struct player *p)
{
	bool bad = false;
	cJSON *m = wire_next(&p->wire, &bad);

	if (m != NULL && !bad && wire_is(m, "hello") && strcmp(wire_str(m, "node"), wire_str(p->here, "node")) == 0)
		p->hello = m;
	else if (m != NULL || bad) {
		cJSON_Delete(m);
		lose(c, p);
	}
}

static void hear_hello(struct cast *c, struct player *p)
{
	int r = wire_fill(&p->wire);

	if (r == -EAGAIN)
		return;
	if (r <= 0)
		lose(c, p);
	else
		take_hello(c, p);
}

/* True: the slot is free again. */
static bool listen_to(struct cast *c, struct stranger *s)
{
	int r = wire_fill(&s->wire);
	struct player *p;
	bool bad;
	cJSON *m;

	if (r == -EAGAIN)
		return false;
	m = r > 0 ? wire_next(&s->wire, &bad) : NULL;
	if (r > 0 && m == NULL && !bad)
		return false;
	if (m == NULL || !is_welcome(c, m)) {
		cJSON_Delete(m);
		wire_finish(&s->wire);
		return true;
	}
	p = &c->players[(uint32_t)wire_num(m, "rank")];
	p->wire = s->wire;
	wire_init(&s->wire, -1);
	if (wire_is(m, "hello")) {
		p->hello = m;
		return true;
	}
	p->here = m;
	take_hello(c, p); /* it may have come along */
	return true;
}

static bool is_awaited(const struct player *p)
{
	return p->here != NULL && p->hello == NULL && !p->gone;
}

static uint32_t missing(const struct cast *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->world; i++)
		n += c->players[i].hello == NULL;
	return n;
}

static void admit(struct cast *c, struct stranger *s, size_t *n)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (*n == STRANGERS) { /* the oldest has had its time */
		wire_finish(&s[0].wire);
		memmove(s, s + 1, (STRANGERS - 1) * sizeof *s);
		(*n)--;
	}
	wire_init(&s[(*n)++].wire, fd);
}

static void name_nodes(struct cast *c)
{
	for (uint32_t i = 0; i < c->world; i++) {
		const char *name = c->players[i].hello != NULL ? wire_str(c->players[i].hello, "node") : NULL;
		uint32_t k = 0;

		if (name == NULL)
			continue;
		while (k < c->n_nodes && strcmp(c->nodes[k], name) != 0)
			k++;
		if (k == c->n_nodes)
			c->nodes[c->n_nodes++] = (char *)(uintptr_t)name; /* lives as long as the hello */
		c->players[i].node = k;
	}
}

/* Those who have come, those who are here, and strangers; who: of the players among them. */
static nfds_t fill_poll(const struct cast *c, const struct stranger *s, size_t n, struct pollfd *p, uint32_t *who, nfds_t *ret_players)
{
	nfds_t k = 0;

	p[k++] = (struct pollfd){ .fd = c->listener, .events = POLLIN };
	for (size_t i = 0; i < n; i++)
		p[k++] = (struct pollfd){ .fd = s[i].wire.fd, .events = POLLIN };
	*ret_players = 0;
	for (uint32_t i = 0; i < c->world; i++)
		if (is_awaited(&c->players[i])) {
			who[(*ret_players)++] = i;
			p[k++] = (struct pollfd){ .fd = c->players[i].wire.fd, .events = POLLIN };
		}
	return k;
}

static void take_polled(struct cast *c, struct stranger *s, size_t *n, const struct pollfd *p, const uint32_t *who, nfds_t players)
{
	for (nfds_t i = 0; i < players; i++)
		if (p[1 + *n + i].revents)
			hear_hello(c, &c->players[who[i]]);
	for (size_t i = *n; i-- > 0;)
		if (p[i + 1].revents && listen_to(c, &s[i]))
			s[i] = s[--*n];
	if (p[0].revents)
		admit(c, s, n);
}

bool cast_assemble(struct cast *c, int timeout_ms)
{
	struct stranger s[STRANGERS];
	struct pollfd *p = calloc(c->world + STRANGERS + 1, sizeof *p);
	uint32_t *who = calloc(c->world, sizeof *who);
	int64_t until = now_ms() + timeout_ms;
	size_t n = 0;

	while (p != NULL && who != NULL && missing(c) > 0 && c->n_gone == 0) {
		nfds_t players, k = fill_poll(c, s, n, p, who, &players);
		int64_t left;

		/* because of one that has ended, perhaps: it may have yet to be let in, and to be heard */
		if (c->ended && until > now_ms() + LAST_WORDS_MS)
			until = now_ms() + LAST_WORDS_MS;
		left = until - now_ms();

		if (poll(p, k, left > 0 ? (int)left : 0) > 0)
			take_polled(c, s, &n, p, who, players);
		if (left <= 0)
			break;
	}
	for (size_t i = 0; i < n; i++)
		wire_finish(&s[i].wire);
	free(p);
	free(who);
	name_nodes(c);
	return missing(c) == 0;
}

/* ---- questions ------------------------------------------------------------------- */

void cast_ask(struct cast *c, uint32_t rank, uint32_t team, struct buf *line)
{
	struct player *p = &c->players[rank];

	cJSON_Delete(p->reply);
	p->reply = NULL;
	p->team = team;
	p->stopped = false;
	p->asked = cast_is_able(c, rank);
	if (p->asked && wire_send(&p->wire, line) < 0)
		lose(c, p);
	buf_finish(line);
}

static void hear(struct cast *c, struct player *p)
{
	int r = wire_fill(&p->wire);
	bool bad = false;

	if (r == -EAGAIN)
		return;
	if (r > 0)
		p->reply = wire_next(&p->wire, &bad);
	if (r <= 0 || bad)
		lose(c, p);
	if (p->reply != NULL)
		p->asked = false;
}

static bool has_failed(const struct player *p)
{
	return p->gone || (p->reply != NULL && wire_is(p->reply, "fail"));
}

/* Tells the rest of its team to wait no longer. */
static void stop_team(struct cast *c, uint32_t team)
{
	for (uint32_t i = 0; i < c->world; i++) {
		struct player *p = &c->players[i];
		struct buf b;
		struct jw w;

		if (!p->asked || p->stopped || p->team != team)
			continue;
		p->stopped = true;
		buf_init(&b);
		wire_begin(&w, &b, "stop");
		jw_end_obj(&w);
		wire_send(&p->wire, &b); /* if it cannot be sent, its end will be seen */
		buf_finish(&b);
	}
}

void cast_gather(struct cast *c, int timeout_ms)
{
	struct pollfd *p = calloc(c->world, sizeof *p);
	uint32_t *who = calloc(c->world, sizeof *who);
	int64_t until = now_ms() + timeout_ms;

	while (p != NULL && who != NULL) {
		int64_t left = until - now_ms();
		nfds_t n = 0;

		if (c->ended && left > ENDING_MS) {
			until = now_ms() + ENDING_MS;
			left = ENDING_MS;
		}
		for (uint32_t i = 0; i < c->world; i++)
			if (c->players[i].asked) {
				who[n] = i;
				p[n++] = (struct pollfd){ .fd = c->players[i].wire.fd, .events = POLLIN };
			}
		if (n == 0 || left <= 0)
			break;
		if (poll(p, n, (int)left) <= 0)
			continue;
		for (nfds_t k = 0; k < n; k++)
			if (p[k].revents) {
				hear(c, &c->players[who[k]]);
				if (has_failed(&c->players[who[k]]))
					stop_team(c, c->players[who[k]].team);
			}
	}
	for (uint32_t i = 0; i < c->world; i++) {
		c->players[i].silent = c->players[i].silent || c->players[i].asked;
		c->players[i].asked = false;
	}
	free(p);
	free(who);
}
