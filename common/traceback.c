/* traceback.c - see traceback.h
 *
 * One pass, line by line. Each prefix (and "none") has a block: idle, or inside of
 * a traceback that waits for the line that names the exception. What is found goes
 * to a list of the newest FOUND_MAX, as places in the text; choose() walks it from
 * its end, and only the winner is put into words. */
#include "common/traceback.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/traceback_line.h"
#include "common/utf8.h"

#define FOUND_MAX 64
#define BLOCKS_MAX 32 /* processes at once */
#define CALM 8192 /* bytes of ordinary output: what went before was survived */
#define NOISE_MAX 200 /* lines of others inside of a traceback */

static const char header[] = "Traceback (most recent call last):";

struct found {
	enum traceback_kind kind;
	int64_t tag;
	bool is_rank;
	size_t begin, end; /* of the whole traceback */
	size_t at; /* the line that names the exception */
	size_t more_at; /* the line after it, when it says nothing itself; 0: none */
	size_t where_at; /* line of the frame, + 1; 0: none */
	bool ignored; /* Python itself says that it went on */
	bool empty; /* "RuntimeError:" and nothing behind it */
};

enum block_state { IDLE, FRAMES, SYNTAX };

struct block {
	bool used;
	int64_t tag;
	bool is_rank;
	enum block_state state;
	bool chained; /* the next traceback belongs to the one before */
	bool original; /* "Original Traceback": the cause of the one before */
	bool named; /* the line before named an exception */
	bool fatal; /* "Fatal Python error" waits for its frame */
	bool aside; /* ... while the frames of other threads come */
	bool ignored; /* the next traceback is of an exception that is ignored */
	unsigned noise;
	size_t begin;
	size_t where_at, own_at; /* innermost frame, + 1; and of those that are nobody's package */
	int last; /* index of its last found, counted from the beginning of all; -1: none */
};

struct scan {
	const char *p;
	size_t n;
	struct block blocks[BLOCKS_MAX];
	unsigned next_block;
	struct found found[FOUND_MAX];
	int n_found; /* in all; the newest FOUND_MAX are there */
	struct trace_line line;
	size_t at, end; /* of the line */
	size_t next; /* where tracebacks that began in this line continue */
};

static struct found *found_at(struct scan *s, int i)
{
	return i >= 0 && i >= s->n_found - FOUND_MAX && i < s->n_found ? &s->found[i % FOUND_MAX] : NULL;
}

static struct block *block_of(struct scan *s, int64_t tag, bool is_rank)
{
	struct block *b;

	for (unsigned i = 0; i < BLOCKS_MAX; i++) {
		b = &s->blocks[i];
		if (b->used && b->tag == tag && b->is_rank == is_rank)
			return b;
	}
	b = &s->blocks[s->next_block++ % BLOCKS_MAX];
	*b = (struct block){ .used = true, .tag = tag, .is_rank = is_rank, .last = -1 };
	return b;
}

/* ---- words ------------------------------------------------------------ */

static bool has(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strstr(text, *words))
			return true;
	return false;
}

static bool is_one_of(const char *name, size_t n, const char *const *words)
{
	for (; *words; words++)
		if (strlen(*words) == n && memcmp(*words, name, n) == 0)
			return true;
	return false;
}

/* Length of "a.b.Name" at the beginning of a line that is it, or goes on with ":". */
static size_t name_len(const char *s)
{
	size_t n = 0;

	if (!isalpha((unsigned char)*s) && *s != '_')
		return 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == '.' || s[n] == '<' || s[n] == '>')
		n++;
	return s[n] == ':' || s[n] == '\0' ? n : 0;
}

/* Does it look like an exception wherever it stands? */
static bool sure_name(const char *s, size_t n)
{
	static const char *const ends[] = { "Error", "Exception", "Exit", "Interrupt", "Failure", "Timeout",
					    "Warning", "Group", "Stop", "StopIteration", "Unavailable", NULL };

	for (const char *const *e = ends; *e; e++) {
		size_t len = strlen(*e);

		if (n >= len && memcmp(s + n - len, *e, len) == 0)
			return true;
	}
	return memchr(s, '.', n) != NULL;
}

static enum traceback_kind kind_of(const char *line, size_t name)
{
	static const char *const wrappers[] = { "ChildFailedError", "SignalException", "WorkerGroupFailureException",
						"ProcessExitedException", "ProcessRaisedException", "KeyboardInterrupt",
						"SystemExit", "ExceptionGroup", "BaseExceptionGroup", "GeneratorExit", NULL };
	static const char *const launchers[] = { "torchrun", "torch.distributed", "accelerate", "deepspeed",
						 "llamafactory", "python", NULL };
	static const char *const peers[] = { "DistBackendError", "DistNetworkError", "DistStoreError", NULL };
	static const char *const said[] = { "Connection closed by peer", "Connection reset by peer",
					    "communicator was aborted", "remote process exited", "Socket Timeout",
					    "failed to recv, got 0 bytes", "gloo/transport", NULL };
	static const char *const ports[] = { "EADDRINUSE", "ddress already in use", NULL };
	const char *last = line + name;
	size_t n = 0;

	while (last > line && last[-1] != '.')
		last--, n++;
	if (is_one_of(last, n, wrappers) || (is_one_of(last, n, (const char *const[]){ "CalledProcessError", NULL }) &&
					     has(line + name, launchers)))
		return TRACEBACK_WRAPPER;
	if ((is_one_of(last, n, peers) || has(line + name, said)) && !has(line + name, ports))
		return TRACEBACK_PEER;
	return TRACEBACK_PYTHON;
}

/* Of a package or of Python itself: not where the user would look first. */
static bool in_package(const char *line)
{
	static const char *const places[] = { "/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python",
					      "<frozen ", "\"<", NULL };

	return has(line, places);
}

/* ---- what is found ------------------------------------------------------ */

static struct found *add(struct scan *s, struct block *b, enum traceback_kind kind)
{
	struct found *f = &s->found[s->n_found % FOUND_MAX];

	*f = (struct found){ .kind = kind, .tag = b->tag, .is_rank = b->is_rank, .begin = s->at, .end = s->end,
			     .at = s->at };
	b->last = s->n_found++;
	b->named = true;
	return f;
}

/* The line names the exception of the open traceback. */
static void close_block(struct scan *s, struct block *b, size_t name)
{
	struct found *before = found_at(s, b->last), *f;
	bool ignored = b->ignored || (before && before->ignored && (b->chained || b->original));
	enum traceback_kind kind = ignored ? TRACEBACK_WRAPPER : kind_of(s->line.text, name);
	bool same = before && b->chained && before->kind != TRACEBACK_WRAPPER;
	bool inner = before && b->original;

	b->state = IDLE;
	if (same && !inner) { /* the first of a chain stands */
		before->end = s->end;
		b->named = true;
	} else {
		if (inner || (before && b->chained))
			before->kind = TRACEBACK_NONE; /* instead of it */
		f = add(s, b, kind);
		f->begin = b->begin;
		f->ignored = ignored;
		f->where_at = b->own_at ? b->own_at : b->where_at;
		f->empty = strspn(s->line.text + name, ": ") == strlen(s->line.text + name);
	}
	b->chained = b->original = b->ignored = false;
	b->where_at = b->own_at = 0;
}

static void open_block(struct scan *s, struct block *b, bool original)
{
	if (b->state != FRAMES) /* else two are woven into each other: the frames are the later one's */
		b->begin = s->at;
	b->state = FRAMES;
	b->original = original;
	b->noise = 0;
	b->where_at = b->own_at = 0;
}

/* '  File "/a/b.py", line 12, in f' and faulthandler's 'File "b.py", line 12 in f'. */
static bool is_frame(const char *s)
{
	s += strspn(s, " ");
	return strncmp(s, "File \"", 6) == 0 && strstr(s, "\", line ") != NULL;
}

static void take_frame(struct scan *s, struct block *b)
{
	b->where_at = s->at + 1;
	if (!in_package(s->line.text))
		b->own_at = s->at + 1;
}

/* ---- lines -------------------------------------------------------------- */

static void in_frames(struct scan *s, struct block *b)
{
	const char *t = s->line.text;
	size_t name;

	if (is_frame(t)) {
		take_frame(s, b);
		b->noise = 0;
		return;
	}
	if (*t == ' ' || *t == '\0')
		return; /* source, carets, "[Previous line repeated ...]" */
	name = name_len(t);
	if (name && (sure_name(t, name) || (b->noise == 0 && (b->where_at || b->chained))))
		close_block(s, b, name);
	else if (++b->noise > NOISE_MAX)
		b->state = IDLE;
}

/* A script that does not compile has no traceback, only its place. */
static void in_syntax(struct scan *s, struct block *b)
{
	static const char *const names[] = { "SyntaxError", "IndentationError", "TabError", NULL };
	size_t name = name_len(s->line.text);

	if (is_one_of(s->line.text, name, names))
		close_block(s, b, name);
	else if (*s->line.text != ' ' || ++b->noise > 6)
		b->state = IDLE;
}

static bool is_watchdog(const char *t)
{
	return strstr(t, "ProcessGroupNCCL.cpp") != NULL &&
	       (strstr(t, "Watchdog caught collective operation timeout") != NULL ||
		strstr(t, "terminated with exception") != NULL);
}

static bool begins(const char *t, const char *const *words)
{
	for (; *words; words++)
		if (strncmp(t, *words, strlen(*words)) == 0)
			return true;
	return false;
}

/* What C and C++ say; a note: what keeps Python from beginning. */
static void native(struct scan *s, struct block *b)
{
	static const char *const dying[] = { "terminate called ", "Fatal Python error: ", "*** stack smashing detected",
					     "double free or corruption", "free(): ", "malloc(): ", "corrupted ",
					     "malloc_consolidate(): ", "munmap_chunk(): ", "CUDA error: ", NULL };
	const char *t = s->line.text, *file;

	if (is_watchdog(t)) {
		add(s, b, strstr(t, "CUDA error: ") ? TRACEBACK_NATIVE : TRACEBACK_PEER);
	} else if (begins(t, dying)) {
		add(s, b, TRACEBACK_NATIVE);
		b->fatal = *t == 'F';
	} else if ((file = strstr(t, ": can't open file ")) != NULL && strstr(file, "[Errno ")) {
		add(s, b, TRACEBACK_NOTE);
	} else if ((file = strstr(t, ": error: ")) != NULL && memchr(t, ' ', (size_t)(file - t)) == NULL) {
		add(s, b, TRACEBACK_NOTE); /* argparse: "train.py: error: unrecognized arguments" */
	}
}

/* The line after one that has named an exception may belong to it. */
static void after_name(struct scan *s, struct block *b)
{
	struct found *f = found_at(s, b->last);
	const char *t = s->line.text;

	if (s->line.len == 0)
		return;
	b->named = false;
	if (!f)
		return;
	if (f->kind == TRACEBACK_NATIVE && strncmp(t, "  what(): ", 10) == 0) {
		f->more_at = s->at;
		f->end = s->end;
		if (strstr(t, "ProcessGroupNCCL") || strstr(t, "Watchdog") || strstr(t, "NCCL error"))
			f->kind = strstr(t, "CUDA error: ") ? TRACEBACK_NATIVE : TRACEBACK_PEER;
	} else if (f->empty && !strstr(t, header)) {
		f->more_at = s->at;
		f->end = s->end;
	}
}

/* What faulthandler shows: the threads, of which one is the current, and their frames,
 * the innermost first. True: the line belongs to it. */
static bool of_fatal(struct scan *s, struct block *b)
{
	struct found *f = found_at(s, b->last);
	const char *t = s->line.text;

	if (strncmp(t, "Thread 0x", 9) == 0 || strncmp(t, "Current thread ", 15) == 0) {
		b->aside = *t == 'T';
	} else if (is_frame(t)) {
		if (f && !b->aside && !f->where_at)
			f->where_at = s->at + 1;
		if (f && !b->aside && !in_package(t)) { /* the users' own, if there is one */
			f->where_at = s->at + 1;
			b->fatal = false;
		}
	} else {
		b->fatal = f && (*t == '\0' || !f->where_at);
		return false;
	}
	if (f)
		f->end = s->end;
	return true;
}

static void when_idle(struct scan *s, struct block *b)
{
	static const char *const links[] = { "During handling of the above exception",
					     "The above exception was the direct cause", NULL };
	static const char *const survived[] = { "Exception ignored ", "--- Logging error ---",
						"Error in sys.excepthook", "Error in atexit.", NULL };
	const char *t = s->line.text;

	if (b->named)
		after_name(s, b);
	if (begins(t, links)) {
		b->chained = true;
		return;
	}
	b->ignored = begins(t, survived);
	if (b->ignored || (b->fatal && of_fatal(s, b)))
		return;
	if (strncmp(t, "  File \"", 8) == 0 && is_frame(t)) {
		b->state = SYNTAX;
		b->noise = 0;
		b->begin = s->at;
		b->where_at = b->own_at = s->at + 1;
		return;
	}
	native(s, b);
}

/* Python 3.11 draws groups of exceptions as a tree: its branches go. */
static void strip_tree(struct trace_line *l)
{
	size_t n = strspn(l->text, " ");

	if (n < 2 || (l->text[n] != '|' && l->text[n] != '+'))
		return;
	n++;
	if (l->text[n] == '-' || (l->text[n] != ' ' && l->text[n] != '\0'))
		return;
	n += l->text[n] == ' ';
	l->len -= n;
	memmove(l->text, l->text + n, l->len + 1);
}

/* A progress bar ends in no line end: the header may stand behind it, with the
 * prefix of its rank right before. */
static const char *find_header(struct scan *s)
{
	const char *h = strstr(s->line.text, header), *open;
	struct trace_line inner = { .len = 0 };

	/* behind more than is kept of a line */
	if (!h && s->end - s->at >= sizeof s->line.text &&
	    memmem(s->p + s->at, s->end - s->at, header, sizeof header - 1)) {
		memcpy(s->line.text, header, sizeof header);
		s->line.len = sizeof header - 1;
		return s->line.text;
	}

	if (!h || h == s->line.text || s->line.tag >= 0)
		return h;
	for (open = h; open > s->line.text && *open != '['; open--)
		;
	trace_line_read(open, 0, strlen(open), &inner);
	if (inner.tag >= 0 && strncmp(inner.text, header, sizeof header - 1) == 0) {
		s->line.tag = inner.tag;
		s->line.is_rank = inner.is_rank;
	}
	return h;
}

static void take_line(struct scan *s)
{
	struct block *b;
	const char *h;

	trace_line_read(s->p, s->at, s->end, &s->line);
	strip_tree(&s->line);
	h = find_header(s);
	b = block_of(s, s->line.tag, s->line.is_rank);
	if (h)
		open_block(s, b, h - s->line.text >= 9 && strncmp(h - 9, "Original ", 9) == 0);
	else if (b->state == FRAMES)
		in_frames(s, b);
	else if (b->state == SYNTAX)
		in_syntax(s, b);
	else
		when_idle(s, b);
}

/* ---- which of them ------------------------------------------------------- */

static bool may_be(const struct found *f, int64_t rank, int64_t local)
{
	if (rank < 0 || f->tag < 0)
		return true;
	return f->is_rank ? f->tag == rank : f->tag == local;
}

static bool is_named(const struct found *f, int64_t rank, int64_t local)
{
	return rank >= 0 && f->tag >= 0 && may_be(f, rank, local);
}

/* From the end backward: the earliest of the best kind, until ordinary output
 * says that life went on. What names the rank asked for wins. */
static const struct found *choose(struct scan *s, int64_t rank, int64_t local)
{
	const struct found *best = NULL;
	size_t next = s->n;
	bool named = false;

	for (int i = s->n_found - 1; i >= 0 && i >= s->n_found - FOUND_MAX; i--) {
		const struct found *f = &s->found[i % FOUND_MAX];

		if (next > f->end && next - f->end > CALM && best && best->kind >= TRACEBACK_NATIVE)
			break;
		if (next > f->end && next - f->end > CALM && next == s->n)
			break; /* long ago: whatever ended it said nothing */
		if (f->begin < next)
			next = f->begin;
		if (f->kind <= TRACEBACK_WRAPPER || !may_be(f, rank, local))
			continue;
		if (named && !is_named(f, rank, local))
			continue;
		if (!best || f->kind >= best->kind || (!named && is_named(f, rank, local)))
			best = f;
		named = named || is_named(f, rank, local);
	}
	return best;
}

/* ---- in words -------------------------------------------------------------- */

/* "b.py:12" of a frame's line; false when it is none. */
static bool where(const char *t, char *out, size_t size)
{
	const char *file = strstr(t, "File \""), *end, *slash;

	if (!file)
		return false;
	file += 6;
	end = strstr(file, "\", line ");
	if (!end)
		return false;
	for (slash = end; slash > file && slash[-1] != '/'; slash--)
		;
	snprintf(out, size, "%.*s:%d", (int)(end - slash), slash, atoi(end + 8));
	return true;
}

/* "terminate called after throwing an instance of 'c10::Error'" is its name. */
static const char *name_of(const struct found *f, char *line)
{
	static const char thrown[] = "terminate called after throwing an instance of '";
	char *p = line, *end;

	if (f->kind == TRACEBACK_NATIVE || f->kind == TRACEBACK_PEER) {
		if (strncmp(line, thrown, sizeof thrown - 1) == 0) {
			p = line + sizeof thrown - 1;
			end = strrchr(p, '\'');
			if (end)
				*end = '\0';
		} else if ((end = strstr(line, "ProcessGroupNCCL.cpp")) != NULL && (end = strstr(end, "] ")) != NULL) {
			p = end + 2; /* without the logger's own */
		}
	}
	return p;
}

/* Appends what fits into 'max' bytes. */
static void put(struct traceback *t, size_t max, const char *text)
{
	size_t n = strlen(t->text), len = strlen(text);

	if (len > max - 1 - n)
		len = max - 1 - n;
	memcpy(t->text + n, text, len);
	t->text[n + len] = '\0';
}

static void tell(struct scan *s, const struct found *f, struct traceback *ret)
{
	struct trace_line l = { .len = 0 };
	char place[256];
	const char *more;
	size_t n, max = sizeof ret->text - sizeof place - 8;

	ret->kind = f->kind;
	ret->rank = f->is_rank ? f->tag : -1;
	ret->after = s->n - f->end;
	trace_line_read(s->p, f->at, trace_line_end(s->p, s->n, f->at), &l);
	strip_tree(&l);
	put(ret, max, name_of(f, l.text));
	if (f->more_at) {
		trace_line_read(s->p, f->more_at, trace_line_end(s->p, s->n, f->more_at), &l);
		more = l.text + strspn(l.text, " ");
		more += strncmp(more, "what(): ", 8) == 0 ? 8 + strspn(more + 8, " ") : 0;
		n = strlen(ret->text);
		if (!f->empty)
			put(ret, max, ": ");
		else if (n && ret->text[n - 1] != ' ')
			put(ret, max, " ");
		put(ret, max, more);
	}
	n = strlen(ret->text);
	while (n > 0 && (ret->text[n - 1] == ' ' || ret->text[n - 1] == ':'))
		ret->text[--n] = '\0';
	if (f->where_at) {
		trace_line_read(s->p, f->where_at - 1, trace_line_end(s->p, s->n, f->where_at - 1), &l);
		strip_tree(&l);
		if (where(l.text, place, sizeof place))
			snprintf(ret->text + n, sizeof ret->text - n, " at %s", place);
	}
	utf8_scrub(ret->text);
}

void traceback_find(const char *p, size_t n, int64_t rank, int64_t local, struct traceback *ret)
{
	struct scan s = { .p = p, .n = n };
	const struct found *f;

	*ret = (struct traceback){ .rank = -1 };
	for (s.at = 0; s.at < n; s.at = s.end) {
		s.end = trace_line_end(p, n, s.at);
		take_line(&s);
	}
	f = choose(&s, rank, local);
	if (f)
		tell(&s, f, ret);
	if (ret->text[0] == '\0') /* a name that is cut off */
		*ret = (struct traceback){ .rank = -1 };
}
