/* cmd_token.c - nodectl token create */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "client/render.h"
#include "common/hostlist.h"

enum { TTL = 1, USES, NODES, SUBMIT, UIDS };
static const struct opt opts[] = {
	{ TTL, 0, "ttl", "T", "how long it may be used (default 1h)" },
	{ USES, 0, "uses", "N", "how many hosts may join with it (default 1)" },
	{ NODES, 0, "nodes", "HOSTLIST", "names that may join (default: any)" },
	{ SUBMIT, 0, "submit", NULL, "users may launch jobs on other nodes from these hosts" },
	{ UIDS, 0, "uids", "LOW-HIGH", "with --submit: whose jobs they may bring (e.g. 1000-59999)" },
	{ 0 },
};

static int take_uids(const struct ctl *c, const char *text, struct rec_token_create *t)
{
	const char *dash = strchr(text, '-');
	uint64_t low, high;
	char first[16];
	struct err e;

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return ctl_usage(c, "--uids \"%s\" is no range: write 1000-59999", text);
	memcpy(first, text, (size_t)(dash - text));
	first[dash - text] = '\0';
	if (opts_uint("--uids", first, 0, 4294967294, &low, &e) < 0 ||
	    opts_uint("--uids", dash + 1, low, 4294967294, &high, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	MSG_SET(t, token_create, uid_min, (uint32_t)low);
	MSG_SET(t, token_create, uid_max, (uint32_t)high);
	return CTL_GO;
}

static int check_nodes(const struct ctl *c, const char *text)
{
	struct hostlist h;
	struct err e;

	if (hostlist_parse(text, &h, &e) < 0)
		return ctl_usage(c, "--nodes: %s", e.text);
	hostlist_finish(&h);
	return CTL_GO;
}

static int take_option(const struct ctl *c, int id, const char *value, struct rec_token_create *t)
{
	uint64_t n;
	struct err e;

	switch (id) {
	case TTL:
		if (opts_duration("--ttl", value, 31536000000, &n, &e) < 0)
			return ctl_usage(c, "%s", e.text);
		if (n < 1000)
			return ctl_usage(c, "--ttl %s is too short: at least 1s", value);
		t->ttl_s = (uint32_t)(n / 1000);
		return CTL_GO;
	case USES:
		if (opts_uint("--uses", value, 1, 65536, &n, &e) < 0)
			return ctl_usage(c, "%s", e.text);
		t->uses = (uint32_t)n;
		return CTL_GO;
	case NODES:
		t->nodes = value;
		return check_nodes(c, value);
	case SUBMIT:
		t->submit = true;
		return CTL_GO;
	case UIDS:
		return take_uids(c, value, t);
	default:
		return ctl_usage(c, "\"%s\" is one word too many", value);
	}
}

/* As in a standalone cluster. */
static bool is_loopback(const char *address)
{
	return address && (strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0 || strncmp(address, "localhost:", 10) == 0);
}

static int print_token(const struct ctl *c, const struct rec_token *t)
{
	char join[128];
	struct timespec now;
	struct out *o;
	struct buf b, left;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	buf_init(&left);
	render_age(&left, t->expires_wall_ms > now.tv_sec * 1000 ?
				  (uint64_t)(t->expires_wall_ms - now.tv_sec * 1000) : 0);
	snprintf(join, sizeof(join), "nodeagentd join %s", t->address ? t->address : "HOST:PORT");
	if (!c->json) { /* the token on one line of its own, whatever the width: it is copied */
		buf_init(&b);
		buf_addf(&b, "on the new host    %s\n", join);
		if (is_loopback(t->address))
			buf_addf(&b, "(no other host reaches %s: this cluster is of this host only; nodeagentd init makes one for several)\n",
				 t->address);
		buf_addf(&b, "it asks for this token, good for another %s:\n%s\n", buf_str(&left), t->token);
		r = ctl_write(&b);
		buf_finish(&b);
		buf_finish(&left);
		return r;
	}
	o = ctl_out(c, &b);
	out_str(o, "command", "on the new host", join);
	out_str(o, "token", "it asks for the token", t->token);
	if (t->expires_wall_ms)
		out_str(o, NULL, "good for another", buf_str(&left));
	out_str(o, "address", NULL, t->address);
	out_int(o, "expires_ms", NULL, t->expires_wall_ms);
	buf_finish(&left);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	struct msg m, answer;
	struct opts o;
	struct link l;
	const char *value;
	int id, r;

	msg_init(&m, MSG_token_create);
	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END)
		if (r != CTL_GO || (r = take_option(c, id, value, &m.u.token_create)) != CTL_GO)
			return r;
	if (MSG_HAS(&m.u.token_create, token_create, uid_max) && !m.u.token_create.submit)
		return ctl_usage(c, "--uids says for whom a host may submit: add --submit");

	r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	m.u.token_create.rid = link_id(&l);
	r = ctl_call(&l, &m, m.u.token_create.rid, MSG_token, &answer);
	if (r == CTL_GO) {
		r = print_token(c, &answer.u.token);
		msg_finish(&answer);
	}
	link_close(&l);
	return r;
}

const struct command cmd_token_create = {
	.verb = "token create",
	.args = "[--ttl T] [--uses N] [--nodes HOSTLIST] [--submit [--uids LOW-HIGH]]",
	.brief = "let new hosts join the cluster (administrator)",
	.help = "Makes a token with which new hosts join, and shows the command to type there. The token is a "
		"secret: it is shown once, and typed or piped into nodeagentd join, never put on its command "
		"line. Works on the coordinator's host only, for root and the group nodeagent-admin.",
	.opts = opts,
	.run = run,
	.admin = true,
};
