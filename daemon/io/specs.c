/* specs.c - see specs.h
 *
 * One work item a request does everything that may block or takes long: hash,
 * write, sync, remove (specs_disk.c).
 *
 * Orders are numbered as they are given, and may overtake each other on the
 * pool: one to remove has no effect on what a younger one has stored.
 */
#include "io/specs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/list.h"
#include "io/tls.h"

#define RECENT_MAX 8 /* blobs kept for the launch that follows a submit within seconds */
#define RECENT_MS 5000
#define KEEP_S (7 * 86400)

enum order {
	ORDER_STORE,
	ORDER_LOAD,
	ORDER_VERIFY,
	ORDER_RELEASE, /* this and what follows: nobody is called back */
	ORDER_DROP,
	ORDER_KEEP_ONLY,
	ORDER_DROP_OLD,
};

struct order_item {
	uv_work_t req;
	struct specs *specs;
	enum order order;
	uint8_t hash[32];
	char *p;
	size_t n;
	uint32_t uid;
	uint64_t seq;
	bool also_drop;
	uint8_t (*wanted)[32];
	size_t n_wanted;
	int rc;
	struct err e;
	specs_cb cb;
	void *arg;
};

struct specs {
	uv_loop_t *loop;
	struct specs_disk *disk;
	uint64_t seq;
	struct spec_blob *recent[RECENT_MAX];
	unsigned next;
	uv_timer_t forget;
};

struct spec_blob *spec_ref(struct spec_blob *b)
{
	b->refs++;
	return b;
}

void spec_unref(struct spec_blob *b)
{
	if (b == NULL || --b->refs > 0)
		return;
	free(b->p);
	free(b);
}

/* ---- on the thread pool ---------------------------------------------- */

static int verify(struct order_item *o)
{
	uint8_t have[32];

	tls_sha256(o->p, o->n, have);
	if (memcmp(have, o->hash, 32) == 0)
		return 0;
	return err_set(&o->e, EBADMSG, "the specification's hash is wrong");
}

static void work(uv_work_t *req)
{
	struct order_item *o = list_entry(req, struct order_item, req);
	struct specs_disk *d = o->specs->disk;

	switch (o->order) {
	case ORDER_STORE:
		o->rc = specs_disk_store(d, o->p, o->n, o->uid, o->seq, o->hash, &o->e);
		break;
	case ORDER_LOAD:
		o->rc = specs_disk_load(d, o->hash, &o->p, &o->n, &o->e);
		break;
	case ORDER_VERIFY:
		o->rc = verify(o);
		break;
	case ORDER_RELEASE:
		specs_disk_release(d, o->hash);
		if (o->also_drop)
			specs_disk_drop(d, o->hash, o->seq);
		break;
	case ORDER_DROP:
		specs_disk_drop(d, o->hash, o->seq);
		break;
	case ORDER_KEEP_ONLY:
		specs_disk_keep_only(d, o->wanted, o->n_wanted, o->seq);
		break;
	case ORDER_DROP_OLD:
		specs_disk_drop_old(d, time(NULL) - KEEP_S, o->seq);
		break;
	}
}

/* ---- on the loop ------------------------------------------------------ */

static void forget(uv_timer_t *t)
{
	struct specs *s = t->data;

	for (unsigned i = 0; i < RECENT_MAX; i++) {
		spec_unref(s->recent[i]);
		s->recent[i] = NULL;
	}
}

static void remember(struct specs *s, struct spec_blob *b)
{
	struct spec_blob **slot = &s->recent[s->next++ % RECENT_MAX];

	spec_unref(*slot);
	*slot = spec_ref(b);
	uv_timer_start(&s->forget, forget, RECENT_MS, 0);
}

static struct spec_blob *recent(struct specs *s, const uint8_t hash[32])
{
	for (unsigned i = 0; i < RECENT_MAX; i++)
		if (s->recent[i] != NULL && memcmp(s->recent[i]->hash, hash, 32) == 0)
			return s->recent[i];
	return NULL;
}

static struct spec_blob *blob_of(struct order_item *o)
{
	struct spec_blob *b = o->p != NULL ? calloc(1, sizeof(*b)) : NULL;

	if (b == NULL)
		return NULL;
	b->refs = 1;
	memcpy(b->hash, o->hash, 32);
	b->p = o->p;
	b->n = o->n;
	o->p = NULL;
	return b;
}

static void order_free(struct order_item *o)
{
	free(o->p);
	free(o->wanted);
	free(o);
}

static void after(uv_work_t *req, int status)
{
	struct order_item *o = list_entry(req, struct order_item, req);
	struct spec_blob *b = NULL;
	bool stored = o->order == ORDER_STORE && o->rc == 0;

	if (o->order >= ORDER_RELEASE) {
		order_free(o);
		return;
	}
	if (o->rc == 0 && (b = recent(o->specs, o->hash)) != NULL)
		spec_ref(b);
	else if (o->rc == 0 && (b = blob_of(o)) != NULL)
		remember(o->specs, b);
	if (o->rc == 0 && b == NULL)
		o->rc = err_set(&o->e, ENOMEM, "out of memory");
	if (stored && o->rc != 0)
		specs_release(o->specs, o->hash, false);
	o->cb(o->arg, o->rc, b, o->rc != 0 ? o->e.text : NULL);
	spec_unref(b);
	order_free(o);
}

static struct order_item *order_new(struct specs *s, enum order what)
{
	struct order_item *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->specs = s;
	o->order = what;
	o->seq = ++s->seq;
	return o;
}

static void order_go(struct order_item *o)
{
	uv_queue_work(o->specs->loop, &o->req, work, after);
}

/* Takes p. Without memory for the order the caller is told from inside its own
 * call: all callers can bear that. */
static void ask(struct specs *s, enum order what, char *p, size_t n, const uint8_t *hash,
		uint32_t uid, specs_cb cb, void *arg)
{
	struct order_item *o = order_new(s, what);

	if (o == NULL) {
		free(p);
		cb(arg, -ENOMEM, NULL, "out of memory");
		return;
	}
	o->p = p;
	o->n = n;
	o->uid = uid;
	o->cb = cb;
	o->arg = arg;
	if (hash != NULL)
		memcpy(o->hash, hash, 32);
	order_go(o);
}

/* Without memory a file stays until the next registration. */
static void tell(struct specs *s, enum order what, const uint8_t *hash, bool also_drop)
{
	struct order_item *o = order_new(s, what);

	if (o == NULL)
		return;
	o->also_drop = also_drop;
	if (hash != NULL)
		memcpy(o->hash, hash, 32);
	order_go(o);
}

void specs_store(struct specs *s, char *p, size_t n, uint32_t uid, specs_cb cb, void *arg)
{
	ask(s, ORDER_STORE, p, n, NULL, uid, cb, arg);
}

void specs_verify(struct specs *s, char *p, size_t n, const uint8_t hash[32], specs_cb cb, void *arg)
{
	ask(s, ORDER_VERIFY, p, n, hash, 0, cb, arg);
}

void specs_release(struct specs *s, const uint8_t hash[32], bool needed)
{
	tell(s, ORDER_RELEASE, hash, !needed);
}

void specs_drop(struct specs *s, const uint8_t hash[32])
{
	tell(s, ORDER_DROP, hash, false);
}

void specs_drop_old(struct specs *s)
{
	tell(s, ORDER_DROP_OLD, NULL, false);
}

void specs_keep_only(struct specs *s, uint8_t (*wanted)[32], size_t n)
{
	struct order_item *o = order_new(s, ORDER_KEEP_ONLY);

	if (o == NULL) {
		free(wanted);
		return;
	}
	o->wanted = wanted;
	o->n_wanted = n;
	order_go(o);
}

void specs_load(struct specs *s, const uint8_t hash[32], specs_cb cb, void *arg)
{
	struct spec_blob *b = recent(s, hash);

	if (b == NULL) {
		ask(s, ORDER_LOAD, NULL, 0, hash, 0, cb, arg);
		return;
	}
	spec_ref(b); /* the callback may bring new ones in */
	cb(arg, 0, b, NULL);
	spec_unref(b);
}

int specs_create(uv_loop_t *loop, const char *state_dir, const struct specs_limits *limits,
		 struct specs **ret, struct err *e)
{
	struct specs *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return err_set(e, ENOMEM, "out of memory");
	s->loop = loop;
	rc = specs_disk_open(state_dir, limits, &s->disk, e);
	if (rc != 0) {
		free(s);
		return rc;
	}
	uv_timer_init(loop, &s->forget);
	uv_unref((uv_handle_t *)&s->forget);
	s->forget.data = s;
	*ret = s;
	return 0;
}

void specs_each(struct specs *s, void (*f)(void *arg, const uint8_t hash[32]), void *arg)
{
	specs_disk_each(s->disk, f, arg);
}

void specs_destroy(struct specs *s)
{
	if (s == NULL)
		return;
	forget(&s->forget);
	specs_disk_close(s->disk);
	free(s);
}
