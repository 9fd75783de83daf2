/* agent_upload.c - a client's specification, and the submit that follows it
 *
 *   none --(first frame)--> growing --(EOF)--> storing --> stored
 *                              '-(too large)-> failed <-----'
 *
 * A submit that comes while the specification is being stored is held back
 * until it is on disk: an acknowledged job never lacks it.
 *
 * What is not on disk yet is in memory: all of one user's is bounded, however
 * many connections it comes on, and also when they are gone while it is stored.
 * So are messages of which the end is still to come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/agent_io.h"
#include "io/specs.h"
#include "proto/spec.h"

#define UPLOADS_USER_MAX (32u << 20) /* sixteen of the largest at the same time */
#define TOO_MUCH_AT_ONCE                                                                    \
	"your user sends more than 32 MiB of commands and environments to this node at once; "  \
	"try again when some of these launches have got their numbers"

#define HALVES_USER_MAX (32u << 20)
#define HALF_SMALL 4096u /* nobody is turned away for so little: nodectl's questions */

/* The client may have left when its specification is stored. */
struct upload_ref {
	struct agent_io *io;
	uint64_t id;
	uint32_t uid;
	size_t charged;
};

struct uploader {
	struct list at; /* agent_io.uploaders */
	uint32_t uid;
	size_t bytes; /* of specifications and submits */
	size_t half; /* of messages that are not complete */
};

static struct uploader *uploader_of(struct agent_io *io, uint32_t uid)
{
	struct uploader *u;

	list_foreach(e, &io->uploaders) {
		u = list_entry(e, struct uploader, at);
		if (u->uid == uid)
			return u;
	}
	u = agent_alloc(sizeof(*u));
	u->uid = uid;
	list_append(&io->uploaders, &u->at);
	return u;
}

static void discharge(struct agent_io *io, uint32_t uid, size_t n)
{
	struct uploader *u = uploader_of(io, uid);

	u->bytes -= n;
	if (u->bytes > 0 || u->half > 0)
		return;
	list_remove(&u->at);
	free(u);
}

/* False: this would be too much of the user's. */
static bool charge(struct agent_io *io, uint32_t uid, size_t n)
{
	struct uploader *u = uploader_of(io, uid);
	bool fits = u->bytes + n <= UPLOADS_USER_MAX;

	u->bytes += fits ? n : 0;
	discharge(io, uid, 0);
	return fits;
}

static void drop_buffer(struct conn *c)
{
	discharge(c->io, c->uid, c->upload_cap);
	free(c->upload);
	c->upload = NULL;
	c->upload_n = c->upload_cap = 0;
}

static void drop_submit(struct conn *c)
{
	if (c->held_submit != NULL)
		discharge(c->io, c->uid, c->held_n);
	free(c->held_submit);
	c->held_submit = NULL;
}

/* From here on it stays as long as a submit or a job that the core knows needs it. */
static void release(struct agent_io *io, const uint8_t hash[32])
{
	specs_release(io->specs, hash, agent_spec_needed(io->core, hash));
}

bool upload_half(struct conn *c, size_t n)
{
	struct uploader *u = uploader_of(c->io, c->uid);
	bool fits = n <= c->half || n <= HALF_SMALL;

	u->half += n - c->half;
	c->half = n;
	fits = fits || u->half <= HALVES_USER_MAX;
	discharge(c->io, c->uid, 0);
	return fits;
}

void upload_gone(struct conn *c)
{
	if (c->upload_state == UPLOAD_STORED)
		release(c->io, c->spec_hash);
	drop_buffer(c);
	drop_submit(c);
	c->upload_state = UPLOAD_NONE;
}

static void stored(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct upload_ref *s = arg;
	struct conn *c = conn_find(s->io, s->id);
	char *held;

	discharge(s->io, s->uid, s->charged);
	if (c == NULL && rc == 0)
		release(s->io, b->hash);
	free(s);
	if (c == NULL)
		return;
	c->upload_state = rc == 0 ? UPLOAD_STORED : UPLOAD_FAILED;
	if (rc == 0) {
		memcpy(c->spec_hash, b->hash, 32);
		c->spec_size = (uint32_t)b->n;
	} else {
		snprintf(c->upload_code, sizeof(c->upload_code), rc == -EDQUOT ? "busy" : "internal");
		snprintf(c->upload_error, sizeof(c->upload_error), "%s", text);
	}
	held = c->held_submit;
	c->held_submit = NULL;
	if (held == NULL)
		return;
	discharge(c->io, c->uid, c->held_n);
	conn_on_json(c->link, held, c->held_n, c);
	free(held);
}

static void upload_done(struct conn *c)
{
	struct upload_ref *s;
	char *p = c->upload;

	if (c->upload_state == UPLOAD_FAILED)
		return; /* nothing is kept of it */
	c->upload_state = UPLOAD_STORING;
	s = agent_alloc(sizeof(*s));
	*s = (struct upload_ref){ .io = c->io, .id = c->id, .uid = c->uid, .charged = c->upload_cap };
	c->upload = NULL; /* it and its charge move on */
	c->upload_cap = 0;
	specs_store(c->io->specs, p != NULL ? p : agent_alloc(1), c->upload_n, c->uid,
		    stored, s);
}

/* 0, -EDQUOT or -ENOMEM. */
static int upload_room(struct conn *c, size_t n)
{
	size_t cap = c->upload_cap ? c->upload_cap : 16384;
	char *p;

	while (cap < c->upload_n + n)
		cap *= 2;
	if (cap == c->upload_cap)
		return 0;
	if (!charge(c->io, c->uid, cap - c->upload_cap))
		return -EDQUOT;
	p = realloc(c->upload, cap);
	if (p == NULL) {
		discharge(c->io, c->uid, cap - c->upload_cap);
		return -ENOMEM;
	}
	c->upload = p;
	c->upload_cap = cap;
	return 0;
}

static void upload_fail(struct conn *c, const char *code, const char *text)
{
	c->upload_state = UPLOAD_FAILED;
	drop_buffer(c);
	snprintf(c->upload_code, sizeof(c->upload_code), "%s", code);
	snprintf(c->upload_error, sizeof(c->upload_error), "%s", text);
}

/* DATA sid 0 fd 3 .. EOF: the specification of the next submit. */
void upload_data(struct conn *c, const struct data_header *h, const char *p, size_t n)
{
	int rc = 0;

	if (c->upload_state == UPLOAD_STORING) {
		conn_refuse(c->link, 0, "bad-request", "one specification at a time");
		link_close(c->link, "sent a specification while one was being stored");
		return;
	}
	if (c->upload_state == UPLOAD_NONE || c->upload_state == UPLOAD_STORED ||
	    (c->upload_state == UPLOAD_FAILED && c->upload_over)) {
		upload_gone(c);
		c->upload_state = UPLOAD_GROWING;
		c->upload_n = 0;
	}
	c->upload_over = false;
	if (c->upload_state == UPLOAD_GROWING && c->upload_n + n > SPEC_MAX)
		upload_fail(c, "too-large",
			    "the command and its environment are larger than 2 MiB; pass large "
			    "values in files, or use --clean-env");
	else if (c->upload_state == UPLOAD_GROWING && (rc = upload_room(c, n)) == -EDQUOT)
		upload_fail(c, "busy", TOO_MUCH_AT_ONCE);
	else if (rc != 0)
		upload_fail(c, "internal", "this node's agent is out of memory");
	if (c->upload_state == UPLOAD_GROWING && n > 0) {
		memcpy(c->upload + c->upload_n, p, n);
		c->upload_n += n;
	}
	if (h->flags & DATA_EOF) {
		c->upload_over = true;
		upload_done(c);
	}
}

void upload_submit(struct conn *c, const struct msg *m, const char *text, size_t n)
{
	struct agent_event ev = { .type = AEV_MESSAGE, .link = c->id, .kind = c->kind, .msg = m };
	uint32_t rid = m->u.submit.rid;

	if (c->upload_state == UPLOAD_FAILED) {
		conn_refuse(c->link, rid, c->upload_code, "%s", c->upload_error);
		return;
	}
	if (c->upload_state == UPLOAD_GROWING || c->held_submit != NULL) {
		conn_refuse(c->link, rid, "bad-request", "submit before the end of the specification");
		return;
	}
	if (c->upload_state == UPLOAD_STORING && !charge(c->io, c->uid, n)) {
		conn_refuse(c->link, rid, "busy", TOO_MUCH_AT_ONCE);
		return;
	}
	if (c->upload_state == UPLOAD_STORING) {
		c->held_submit = agent_alloc(n + 1);
		memcpy(c->held_submit, text, n);
		c->held_n = n;
		return;
	}
	if (c->upload_state == UPLOAD_STORED) {
		ev.spec_hash = c->spec_hash;
		ev.spec_size = c->spec_size;
	}
	agent_feed(c->io, &ev);
}
