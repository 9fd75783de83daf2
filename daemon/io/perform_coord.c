/* perform_coord.c - the one switch from the coordinator's actions to their effects
 *
 * A token leaves the core without the coordinator's key, which the core does
 * not know: it is appended here. Tokens are secrets and are never logged. */
#include "io/coord_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/log.h"

#define TOKEN_PREFIX "{\"t\":\"token\""

static void send_text(struct coord_link *c, const char *text, size_t n)
{
	int r = -ENOTCONN;

	if (coord_limits_may_send(c, n, c->id == c->role->asker))
		r = link_send_json(c->l, text, n);
	/* Left out, not closed: a node's link carries its heartbeats and other
	 * people's answers as well. Who asked is told by its time running out. */
	if (r == -EMSGSIZE)
		log_error("link %llu: an answer of %zu bytes is too long to send: a bug",
			  (unsigned long long)c->id, n);
	else if (r == -ENOMEM)
		link_close(c->l, "it does not take what is sent to it");
	else if (r >= 0)
		coord_limits_sent(c, r > 0);
}

static void send_token(struct coord_link *c, const struct action *a)
{
	char text[256], key[2 * KEY_HASH + 1];
	struct msg m;
	struct buf b;

	if (msg_decode(a->text, a->len, &m, NULL) < 0)
		return;

	hex_encode(key, tls_own_key(c->role->tls), KEY_HASH);
	snprintf(text, sizeof(text), "%s.%s", m.u.token.token, key);
	m.u.token.token = text;
	buf_init(&b);
	if (msg_encode(&m, &b, NULL) == 0)
		send_text(c, b.data, b.len);
	if (b.data)
		explicit_bzero(b.data, b.len);
	explicit_bzero(text, sizeof(text));
	buf_finish(&b);
	msg_finish(&m);
}

static void perform_send(struct coord_role *r, const struct action *a)
{
	struct coord_link *c = coord_link_find(r, a->link);

	if (!c)
		return;

	if (a->len > strlen(TOKEN_PREFIX) &&
	    memcmp(a->text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0)
		send_token(c, a);
	else
		send_text(c, a->text, a->len);
}

static void perform_close(struct coord_role *r, const struct action *a)
{
	struct coord_link *c = coord_link_find(r, a->link);

	if (c)
		link_close(c->l, a->text ? a->text : "closed by the coordinator");
}

static void perform_persist(struct coord_role *r, const struct action *a)
{
	if (store_write(r->store, a->ticket, a->rows, a->n_rows) < 0)
		coord_no_memory();
}

void coord_perform(struct coord_role *r)
{
	for (size_t i = 0; i < r->out.n; i++) {
		const struct action *a = &r->out.v[i];

		switch (a->type) {
		case ACT_SEND:
			perform_send(r, a);
			break;
		case ACT_CLOSE:
			perform_close(r, a);
			break;
		case ACT_LOG:
			log_info("%s", a->text);
			break;
		case ACT_EVENT:
			hook_push(r->hook, a->text, a->len);
			break;
		case ACT_PERSIST:
			perform_persist(r, a);
			break;
		case ACT_DROP_KEY:
			coord_links_drop_key(r, a->key);
			break;
		default:
			log_error("the coordinator cannot do '%s'", action_name(a->type));
		}
	}
}
