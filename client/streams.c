/* streams.c - the output of a job's ranks, see streams.h */
#include "client/streams.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/term.h"
#include "common/json.h"
#include "common/utf8.h"

#define REST_MAX (64u << 10) /* what has no line end for so long has no lines */
#define RANKS_UNKNOWN (1u << 20) /* a job that does not say how many ranks it has */

struct stream {
	struct label_stream ls;
	struct list waiting;
	mono_t show_at;
	uint64_t next; /* offset expected */
	uint64_t lost; /* bytes dropped by the node, as told so far */
	uint64_t lines; /* so far; counted with 'head' only */
	uint32_t rank;
	uint8_t fd;
	bool begun, ended;
	struct buf rest; /* of a line whose begin was given back, until its end has come */
	bool cutting; /* the next bytes are such a rest */
	bool told_full; /* that its node had no room, or another stream of that node has */
};

void streams_init(struct streams *st, enum labels mode, bool json)
{
	memset(st, 0, sizeof(*st));
	sink_init(&st->sinks[0], 1);
	sink_init(&st->sinks[1], 2);
	st->same = sink_same(1, 2);
	st->mode = mode;
	st->json = json;
	list_init(&st->waiting);
}

void streams_finish(struct streams *st)
{
	for (size_t i = 0; i < st->cap; i++)
		if (st->tab[i]) {
			label_stream_finish(&st->tab[i]->ls);
			buf_finish(&st->tab[i]->rest);
			free(st->tab[i]);
		}
	free(st->tab);
	sink_finish(&st->sinks[0]);
	sink_finish(&st->sinks[1]);
}

static struct sink *sink_of(struct streams *st, uint8_t fd)
{
	return &st->sinks[fd == 2 && !st->same];
}

void streams_job(struct streams *st, const struct rec_job_info *job)
{
	st->job = job;
}

const char *streams_node(const struct rec_job_info *job, uint32_t rank)
{
	uint32_t each;

	if (!job)
		return NULL;
	each = job->procs_per_node ? job->procs_per_node : 1;
	if (rank / each < job->n_node_names)
		return job->node_names[rank / each];
	if (rank < job->n_ranks && job->ranks[rank].rank == rank)
		return job->ranks[rank].node;
	return NULL;
}

static uint64_t ranks_shown(const struct streams *st)
{
	uint64_t n = 0;

	if (!st->ranks)
		return st->job && st->job->world ? st->job->world : 2;
	for (size_t i = 0; i < st->n_ranks; i++)
		n += (uint64_t)st->ranks[i].last - st->ranks[i].first + 1;
	return n;
}

static void decide(struct streams *st)
{
	bool many = ranks_shown(st) > 1;

	st->decided = true;
	st->labelled = st->mode == LABELS_ON || (st->mode == LABELS_AUTO && many);
	st->raw = !st->labelled && !many;
}

static void label_of(const struct streams *st, uint32_t rank, char *out, size_t size)
{
	const char *node = streams_node(st->job, rank);

	snprintf(out, size, "[%s:%u] ", node ? node : "?", rank);
}

static bool grow(struct streams *st, size_t want)
{
	size_t cap = st->cap ? st->cap : 64;
	struct stream **more;

	while (cap < want)
		cap *= 2;
	more = realloc(st->tab, cap * sizeof(struct stream *)); /* NOLINT: a table of pointers */
	if (!more)
		return false;
	for (size_t i = st->cap; i < cap; i++)
		more[i] = NULL;
	st->tab = more;
	st->cap = cap;
	return true;
}

/* NULL: no such rank, or out of memory. */
static struct stream *stream_of(struct streams *st, uint32_t rank, uint8_t fd)
{
	uint32_t ranks = st->job && st->job->world ? st->job->world : RANKS_UNKNOWN;
	size_t i = (size_t)rank * 2 + fd - 1;
	char label[LABEL_MAX];
	struct stream *s;

	if (rank >= ranks || (i >= st->cap && !grow(st, i + 1)))
		return NULL;
	if (st->tab[i])
		return st->tab[i];
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->rank = rank;
	s->fd = fd;
	s->next = st->first_offset;
	list_init(&s->waiting);
	buf_init(&s->rest);
	label_of(st, rank, label, sizeof(label));
	label_stream_init(&s->ls, st->labelled && !st->json ? label : NULL);
	st->tab[i] = s;
	return s;
}

/* ---- JSON: an object a line -------------------------------------------- */

static void json_head(struct jw *w, struct buf *b, const struct streams *st, const struct stream *s,
		      const char *event)
{
	jw_init(w, b);
	jw_obj(w);
	jw_key(w, "event");
	jw_str(w, event);
	jw_key(w, "rank");
	jw_uint(w, s->rank);
	jw_key(w, "node");
	jw_str(w, streams_node(st->job, s->rank));
	jw_key(w, "stream");
	jw_str(w, s->fd == 1 ? "stdout" : "stderr");
}

static void json_line(struct streams *st, const struct stream *s, uint64_t at, const char *p, size_t n,
		      bool whole)
{
	struct buf *b = &st->sinks[0].out.buf;
	struct jw w;

	json_head(&w, b, st, s, "output");
	jw_key(&w, "offset");
	jw_uint(&w, at);
	jw_key(&w, "text");
	jw_strn(&w, p, n);
	if (!whole) {
		jw_key(&w, "partial");
		jw_bool(&w, true);
	}
	jw_end_obj(&w);
	buf_addc(b, '\n');
}

/* 'at': the offset of p[0] in its stream. */
static void json_feed(struct streams *st, struct stream *s, uint64_t at, const char *p, size_t n)
{
	struct buf *held = &s->ls.held;
	const char *end = p + n, *nl;

	while ((nl = memchr(p, '\n', (size_t)(end - p)))) {
		size_t len = (size_t)(nl - p);

		if (held->len) {
			uint64_t begin = at - held->len;

			buf_add(held, p, len);
			json_line(st, s, begin, held->data, held->len, true);
			buf_reset(held);
		} else {
			json_line(st, s, at, p, len, true);
		}
		at += len + 1;
		p = nl + 1;
	}
	at += (uint64_t)(end - p);
	buf_add(held, p, (size_t)(end - p));
	if (held->len > LABEL_HELD_MAX) {
		size_t whole = utf8_cut(held->data, held->len); /* what is begun is a character of the next piece */

		json_line(st, s, at - held->len, held->data, whole, false);
		buf_drop(held, whole);
	}
}

void streams_json(struct streams *st, const struct buf *line)
{
	buf_add(&st->sinks[0].out.buf, line->data, line->len);
}

/* ---- bytes ------------------------------------------------------------- */

static void wait_quiet(struct streams *st, struct stream *s, struct sink *k, mono_t now)
{
	list_remove(&s->waiting);
	if (!k->terminal || !s->ls.held.len)
		return;
	s->show_at = mono_add_ms(now, STREAMS_QUIET_MS);
	list_append(&st->waiting, &s->waiting);
}

/* Lines beyond those asked for are cut off; bytes left. */
static size_t cut_head(const struct streams *st, struct stream *s, const char *p, size_t n)
{
	size_t left = 0;

	while (left < n && s->lines < st->head) {
		const char *nl = memchr(p + left, '\n', n - left);

		if (!nl)
			return n;
		left = (size_t)(nl - p) + 1;
		s->lines++;
	}
	return left;
}

static void feed(struct streams *st, struct stream *s, uint64_t at, const char *p, size_t n, mono_t now)
{
	struct sink *k = sink_of(st, s->fd);

	if (st->head)
		n = cut_head(st, s, p, n);
	if (st->json) {
		json_feed(st, s, at, p, n);
		return;
	}
	if (st->raw) {
		sink_pass(k, &s->ls, p, n);
		return;
	}
	label_feed(&k->out, &s->ls, p, n);
	wait_quiet(st, s, k, now);
}

/* Bytes of p that end the line whose begin is gone. They are kept until that is sure. */
static size_t cut_rest(struct stream *s, const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] != '\n' && p[i] != '\r')
		i++;
	buf_add(&s->rest, p, i);
	if (i == n && s->rest.len < REST_MAX)
		return n;
	s->cutting = false;
	if (i == n)
		return i;
	buf_finish(&s->rest);
	return i + (i + 1 < n && p[i] == '\r' && p[i + 1] == '\n' ? 2 : 1);
}

/* A rest that had no end after all is output like any other. */
static void show_rest(struct streams *st, struct stream *s, uint64_t end, mono_t now)
{
	struct buf rest = s->rest;

	s->cutting = false;
	buf_init(&s->rest);
	if (rest.len)
		feed(st, s, end - rest.len, rest.data, rest.len, now);
	buf_finish(&rest);
}

static void feed_lines(struct streams *st, struct stream *s, uint64_t at, const char *p, size_t n, mono_t now)
{
	size_t cut = 0;

	if (s->cutting) {
		cut = cut_rest(s, p, n);
		if (!s->cutting)
			show_rest(st, s, at + cut, now);
	}
	if (cut < n)
		feed(st, s, at + cut, p + cut, n - cut, now);
}

/* What is open of a line is all of it. */
static void close_line(struct streams *st, struct stream *s)
{
	list_remove(&s->waiting);
	if (st->json) {
		if (s->ls.held.len)
			json_line(st, s, s->next - s->ls.held.len, s->ls.held.data, s->ls.held.len, false);
		buf_finish(&s->ls.held);
		return;
	}
	label_eof(&sink_of(st, s->fd)->out, &s->ls);
}

static void end_stream(struct streams *st, struct stream *s)
{
	if (s->ended)
		return;
	show_rest(st, s, s->next, (mono_t){ 0 });
	s->ended = true;
	close_line(st, s);
}

static void told_missing(struct streams *st, const struct stream *s, uint64_t n, const char *what)
{
	char label[LABEL_MAX], text[LABEL_MAX + 128];
	struct buf *b = &st->sinks[0].out.buf;
	struct jw w;

	if (st->json) {
		json_head(&w, b, st, s, "missing");
		jw_key(&w, "bytes");
		jw_uint(&w, n);
		jw_key(&w, "text");
		jw_str(&w, what);
		jw_end_obj(&w);
		buf_addc(b, '\n');
		return;
	}
	label_of(st, s->rank, label, sizeof(label));
	snprintf(text, sizeof(text), "%snodeagent: %" PRIu64 " bytes of output %s", label, n, what);
	streams_tell(st, text);
}

static bool same_node(const struct streams *st, uint32_t a, uint32_t b)
{
	const char *x = streams_node(st->job, a), *y = streams_node(st->job, b);

	return x && y ? strcmp(x, y) == 0 : !x && !y;
}

/* Once a node: how much it was is told at the job's end, and exactly in JSON. */
static void told_full(struct streams *st, struct stream *s, uint64_t n)
{
	const char *node = streams_node(st->job, s->rank);
	char text[256];
	bool told = s->told_full;

	if (st->json) {
		told_missing(st, s, n, "were lost (disk full on node)");
		return;
	}
	for (size_t i = 0; !told && i < st->cap; i++)
		told = st->tab[i] && st->tab[i]->told_full && same_node(st, st->tab[i]->rank, s->rank);
	s->told_full = true;
	if (told)
		return;
	snprintf(text, sizeof(text), "nodectl: node %s has no room left for output, and some of it is lost from here "
		 "on; the job itself goes on", node ? node : "?");
	streams_tell(st, text);
}

/* The oldest part is not there any more. */
static void told_given(struct streams *st, struct stream *s, uint64_t from, uint64_t to)
{
	const char *node = streams_node(st->job, s->rank);
	char text[300], size[32];

	if (st->json) {
		told_missing(st, s, to - from, "were given back (spool_per_job, spool_per_node)");
		return;
	}
	if (to - from < 1000000)
		snprintf(size, sizeof(size), "%" PRIu64 " bytes", to - from);
	else
		snprintf(size, sizeof(size), "%.1f MB", (double)(to - from) / 1e6);
	snprintf(text, sizeof(text), "nodectl: %s of rank %u's oldest output (%s) are gone: node %s keeps only so much of "
		 "it (spool_per_job, spool_per_node)", size, s->rank, s->fd == 1 ? "stdout" : "stderr",
		 node ? node : "?");
	streams_tell(st, text);
}

/* The stream goes on at 'to', most likely within a line. Of a reader that begins somewhere all before counts. */
static void on_given(struct streams *st, struct stream *s, uint64_t to, mono_t now)
{
	uint64_t from = s->begun || !st->any_begin ? s->next : 0;

	if (to <= from)
		return;
	show_rest(st, s, s->next, now);
	close_line(st, s);
	told_given(st, s, from, to);
	s->next = to;
	s->cutting = true;
}

void streams_data(struct streams *st, const struct data_header *h, const char *p, size_t n,
		  mono_t now)
{
	struct stream *s;
	uint64_t old;

	st->owed += n;
	if (h->fd != 1 && h->fd != 2)
		return;
	if (!st->decided)
		decide(st);
	s = stream_of(st, h->rank, h->fd);
	if (!s)
		return;

	if (h->flags & DATA_LOST) {
		if (h->offset > s->lost) { /* a total: told again after a reconnect */
			show_rest(st, s, s->next, now);
			close_line(st, s);
			told_full(st, s, h->offset - s->lost);
		}
		s->lost = h->offset > s->lost ? h->offset : s->lost;
	} else if (h->flags & DATA_GIVEN) {
		on_given(st, s, h->offset, now);
		s->begun = true;
	} else {
		if ((s->begun || !st->any_begin) && h->offset > s->next) {
			show_rest(st, s, s->next, now);
			close_line(st, s);
			told_missing(st, s, h->offset - s->next, "did not arrive");
		}
		old = s->begun && h->offset < s->next ? s->next - h->offset : 0;
		if (old < n && !s->ended)
			feed_lines(st, s, h->offset + old, p + old, n - (size_t)old, now);
		if (h->offset + n > s->next || !s->begun)
			s->next = h->offset + n;
		s->begun = true;
	}
	if (h->flags & DATA_EOF)
		end_stream(st, s);
}

bool streams_enough(const struct streams *st)
{
	uint64_t want = ranks_shown(st) * (st->fds == 1 || st->fds == 2 ? 1 : 2), have = 0;

	if (!st->head || !st->job || !st->job->world)
		return false;
	for (size_t i = 0; i < st->cap; i++)
		have += st->tab[i] && (st->tab[i]->ended || st->tab[i]->lines >= st->head);
	return have >= want;
}

bool streams_all_ended(const struct streams *st)
{
	uint64_t want = ranks_shown(st) * (st->fds == 1 || st->fds == 2 ? 1 : 2), have = 0;

	for (size_t i = 0; i < st->cap; i++)
		have += st->tab[i] && st->tab[i]->ended;
	return have >= want;
}

int streams_flush(struct streams *st)
{
	int r = sink_flush(&st->sinks[0]);

	sink_flush(&st->sinks[1]); /* nobody can be told that standard error is gone */
	return r < 0 ? r : st->sinks[0].error;
}

size_t streams_pending(const struct streams *st)
{
	return sink_pending(&st->sinks[0]) + sink_pending(&st->sinks[1]);
}

mono_t streams_due(const struct streams *st)
{
	if (list_empty(&st->waiting))
		return MONO_NEVER;
	return list_entry(st->waiting.next, struct stream, waiting)->show_at;
}

void streams_tick(struct streams *st, mono_t now)
{
	while (mono_due(streams_due(st), now)) {
		struct stream *s = list_entry(st->waiting.next, struct stream, waiting);

		list_remove(&s->waiting);
		label_show(&sink_of(st, s->fd)->out, &s->ls);
	}
}

void streams_end(struct streams *st)
{
	for (size_t i = 0; i < st->cap; i++)
		if (st->tab[i])
			end_stream(st, st->tab[i]);
}

void streams_restart(struct streams *st)
{
	streams_end(st);
	for (size_t i = 0; i < st->cap; i++) {
		if (!st->tab[i])
			continue;
		label_stream_finish(&st->tab[i]->ls);
		buf_finish(&st->tab[i]->rest);
		free(st->tab[i]);
		st->tab[i] = NULL;
	}
}

struct rec_follow_from *streams_from(const struct streams *st, size_t max, size_t *n)
{
	struct rec_follow_from *list = calloc(max ? max : 1, sizeof(*list));

	*n = 0;
	for (size_t i = 0; list && i < st->cap && *n < max; i++) {
		const struct stream *s = st->tab[i];

		if (!s || !s->begun)
			continue;
		list[*n].rank = s->rank;
		list[*n].fd = s->fd;
		list[*n].offset = s->next;
		++*n;
	}
	return list;
}

void streams_say(struct streams *st, const char *text)
{
	label_line(&sink_of(st, 2)->out, text);
}

/* On a terminal no word is torn at its edge; "  others  ..." goes on under its text. */
void streams_tell(struct streams *st, const char *text)
{
	struct buf b;
	char *line, *end;

	buf_init(&b);
	if (sink_of(st, 2)->terminal)
		term_add_wrapped(&b, text, "", *text == ' ' ? "          " : "  ", term_columns(2));
	else
		term_add_clean(&b, text, strlen(text));
	buf_addc(&b, '\0');
	for (line = b.data; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		streams_say(st, line);
	}
	if (line && *line)
		streams_say(st, line);
	buf_finish(&b);
}

void streams_wipe_echo(struct streams *st)
{
	struct label_out *o = &sink_of(st, 2)->out;

	if (!o->terminal || (o->open && !o->cr))
		return; /* behind what was written: nothing is spoilt */
	buf_adds(&o->buf, "\r\033[K");
	if (o->cr) /* a bar, whose label the echo has written over: it is drawn again */
		o->open = NULL;
	o->cr = false;
}
