/* join.c - `nodeagentd join`: enrols this host with a token
 *
 * The token names the coordinator's key, so the first connection already is
 * to the right one; the token's secret proves to it that we were invited.
 * Our private key is made here and never leaves.
 *
 *   dialing -> greeting (hello) -> asking (join) -> joined | refused
 *
 * The token comes from a prompt without echo, from standard input or from a
 * file; never from the command line, where every user could read it. */
#include "io/enrol.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/hostlist.h"
#include "io/files.h"
#include "io/link.h"
#include "io/loop_util.h"
#include "io/roles.h"
#include "io/settings.h"
#include "io/sockets.h"

#define DEADLINE_MS 15000
#define PATIENCE_MS 1000 /* then it is said what we wait for */
#define PATIENCE_AGAIN_MS 5000
#define TOKEN_MAX 256
#define SECRET 32

static const char usage[] =
	"usage: nodeagentd join HOST:PORT [--name NAME] [--token-file FILE]\n"
	"                       [--dir DIR] [--config FILE]\n"
	"\n"
	"Makes this host a node of the cluster whose coordinator is at HOST:PORT. Asks\n"
	"for the token that `nodectl token create` printed there, or reads it from\n"
	"standard input or from FILE.\n"
	"\n"
	"  --name NAME        the node's name (default: this host's, up to the first dot)\n"
	"  --token-file FILE  read the token from FILE\n"
	"  --dir DIR          where to keep the node's key (--state means the same;\n"
	"                     default " DEFAULT_BASE "/agent, or what the configuration says)\n"
	"  --config FILE      default " DEFAULT_CONFIG "\n";

struct token {
	char id[33];
	uint8_t secret[SECRET];
	uint8_t coord_key[KEY_HASH];
};

struct join {
	const char *dir, *token_file, *config;
	char node[65];
	struct node_identity id;
	struct token token;
	struct tls_context *tls;
	uv_loop_t loop;
	uv_timer_t deadline, patience;
	struct link *l;
	const char *stage;
	char address[280];
	bool joined, over;
};

/* ---- the token ---------------------------------------------------------- */

static struct termios terminal;

static void on_interrupt(int number)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
	_exit(128 + number);
}

static void read_hidden(char *out, size_t size)
{
	struct termios quiet;
	struct sigaction act = { .sa_handler = on_interrupt };

	fputs("Token: ", stderr);
	if (tcgetattr(STDIN_FILENO, &terminal) < 0)
		return;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	quiet = terminal;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	if (!fgets(out, (int)size, stdin))
		out[0] = '\0';
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	fputc('\n', stderr);
}

static int read_text(const char *file, char *out, size_t size, struct err *e)
{
	FILE *f = stdin;

	if (file && !(f = fopen(file, "re")))
		return err_set(e, errno, "cannot read the token from %s: %s", file, strerror(errno));

	out[0] = '\0';
	setvbuf(f, NULL, _IONBF, 0);
	if (f == stdin && isatty(STDIN_FILENO))
		read_hidden(out, size);
	else if (!fgets(out, (int)size, f))
		out[0] = '\0';
	if (file)
		fclose(f);
	out[strcspn(out, " \t\r\n")] = '\0';
	return 0;
}

/* na1.ID.SECRET.KEY, the last two 64 hexadecimal digits each */
static int parse_token(const char *text, struct token *ret, struct err *e)
{
	char id[33] = "", secret[65] = "", key[65] = "", end;

	if (!text[0])
		return err_set(e, EINVAL, "no token was given. On the head host: nodectl token create");
	if (sscanf(text, "na1.%32[0-9a-f].%64[0-9a-f].%64[0-9a-f]%c", id, secret, key, &end) != 3 ||
	    hex_decode(secret, ret->secret, SECRET) < 0 ||
	    hex_decode(key, ret->coord_key, KEY_HASH) < 0) {
		explicit_bzero(secret, sizeof(secret));
		return err_set(e, EINVAL, "that is not a whole token: it begins with 'na1.' and has 150 "
			       "characters without a space");
	}
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	explicit_bzero(secret, sizeof(secret));
	return 0;
}

static int read_token(struct join *j, struct err *e)
{
	char text[TOKEN_MAX] = "";
	int r = read_text(j->token_file, text, sizeof(text), e);

	if (r == 0)
		r = parse_token(text, &j->token, e);
	explicit_bzero(text, sizeof(text));
	return r;
}

/* ---- the conversation --------------------------------------------------- */

static void fail(struct join *j, const char *text)
{
	if (j->over)
		return;
	fprintf(stderr, "nodeagentd join: %s\n", text);
	j->over = true;
	uv_stop(&j->loop);
}

static void send_message(struct join *j, const struct msg *m)
{
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		fail(j, "out of memory");
	else
		link_send_json(j->l, b.data, b.len);
	if (b.data)
		explicit_bzero(b.data, b.len);
	buf_finish(&b);
}

static void on_up(struct link *l, void *arg)
{
	struct join *j = arg;
	struct msg m;

	j->stage = "its greeting";
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "join";
	m.u.hello.node = j->node;
	send_message(j, &m);
}

static void on_welcome(struct join *j, const struct rec_welcome *w)
{
	struct msg m;
	struct err e;

	if (proto_compatible(NA_PROTO, w->proto, "the coordinator", &e) < 0) {
		fail(j, e.text);
		return;
	}
	j->stage = "its decision";
	msg_init(&m, MSG_join);
	m.u.join.token_id = j->token.id;
	m.u.join.secret = (struct bytes){ j->token.secret, SECRET };
	m.u.join.node = j->node;
	send_message(j, &m);
}

static void on_joined(struct join *j, const struct rec_joined *r)
{
	struct err e;

	snprintf(j->id.node, sizeof(j->id.node), "%s", r->node);
	snprintf(j->id.cluster, sizeof(j->id.cluster), "%s", r->cluster);
	if (identity_save(j->dir, &j->id, &e) < 0) {
		fail(j, e.text);
		return;
	}
	j->joined = j->over = true;
	uv_stop(&j->loop);
}

static void refused(struct join *j, const struct rec_refused *r)
{
	char text[1200];

	snprintf(text, sizeof(text), "not admitted as node %s: %s", j->node, r->text);
	fail(j, text);
}

static void on_json(struct link *l, const char *text, size_t n, void *arg)
{
	struct join *j = arg;
	struct err e;
	struct msg m;
	int r = msg_decode(text, n, &m, &e);

	if (r == -ENOTSUP)
		return;
	if (r < 0) {
		fail(j, e.text);
		return;
	}
	if (m.type == MSG_refused)
		refused(j, &m.u.refused);
	else if (m.type == MSG_welcome)
		on_welcome(j, &m.u.welcome);
	else if (m.type == MSG_joined)
		on_joined(j, &m.u.joined);
	msg_finish(&m);
}

/* What to do about the end of the connection. */
static const char *remedy(const char *why)
{
	static const struct {
		const char *part, *remedy;
	} rows[] = {
		{ "another key", "It is not the coordinator that made the token: look at HOST:PORT, or make "
				 "a token there" },
		{ "connection refused", "Nobody listens there: start the coordinator (systemctl status "
					"nodeagent-coordinator on the head host), or look at HOST:PORT, which "
					"'nodectl token create' prints" },
		{ "cannot find the address", "Look at the name, or give the head host's IP address" },
		{ "does not speak TLS", "Something else listens there: look at HOST:PORT, which 'nodectl "
					"token create' prints" },
		{ "unreachable", "Look at this host's network, and at HOST" },
		{ "no route", "Look at this host's network, at a firewall in between, and at HOST" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strstr(why, rows[i].part))
			return rows[i].remedy;
	return "Try again; if it stays so, the coordinator's log says why (journalctl -u "
	       "nodeagent-coordinator on the head host)";
}

static void on_down(struct link *l, const char *why, void *arg)
{
	struct join *j = arg;
	char text[1024];

	j->l = NULL;
	snprintf(text, sizeof(text), "%s: %s. %s", j->address, why, remedy(why));
	fail(j, text);
}

static const struct link_callbacks callbacks = {
	.on_up = on_up, .on_json = on_json, .on_down = on_down,
};

static void on_deadline(uv_timer_t *t)
{
	struct join *j = t->data;
	char text[400];

	snprintf(text, sizeof(text), "no answer from %s within %d s (waiting for %s). Is a firewall in "
		 "between?", j->address, DEADLINE_MS / 1000, j->stage);
	fail(j, text);
}

static void on_patience(uv_timer_t *t)
{
	struct join *j = t->data;

	fprintf(stderr, "waiting for %s: %s ...\n", j->address, j->stage);
}

static void converse(struct join *j)
{
	uv_loop_init(&j->loop);
	uv_timer_init(&j->loop, &j->deadline);
	uv_timer_init(&j->loop, &j->patience);
	j->deadline.data = j->patience.data = j;
	uv_timer_start(&j->deadline, on_deadline, DEADLINE_MS, 0);
	uv_timer_start(&j->patience, on_patience, PATIENCE_MS, PATIENCE_AGAIN_MS);
	j->stage = "a connection";
	j->l = link_dial_tls(&j->loop, j->tls, j->id.coord_host, j->id.coord_port, j->token.coord_key,
			     DEADLINE_MS + 1000, &callbacks, j);
	if (!j->l)
		fail(j, "out of memory");
	else
		uv_run(&j->loop, UV_RUN_DEFAULT);
	if (j->l)
		link_close(j->l, "done");
	uv_close((uv_handle_t *)&j->deadline, NULL);
	uv_close((uv_handle_t *)&j->patience, NULL);
	loop_finish(&j->loop, 3000);
}

/* ---- the command -------------------------------------------------------- */

static int bad(const char *text, const char *arg)
{
	fprintf(stderr, "nodeagentd join: ");
	fprintf(stderr, text, arg);
	fputs(" (see nodeagentd join --help)\n", stderr);
	return -EINVAL;
}

static int refuse_secret(const char *arg)
{
	if (strncmp(arg, "na1.", 4) != 0)
		return 0;
	fputs("nodeagentd join: the token must not be on the command line, where every user can read "
	      "it. Revoke it (make a new one with: nodectl token create), and give it when asked, on "
	      "standard input, or with --token-file\n", stderr);
	return -EINVAL;
}

static int take_address(struct join *j, const char *arg)
{
	struct err e;

	if (j->id.coord_port != 0)
		return bad("unexpected '%s'", arg);
	if (socket_parse_host_port(arg, j->id.coord_host, &j->id.coord_port, &e) < 0)
		return bad("%s", e.text);
	snprintf(j->address, sizeof(j->address), "%s", arg);
	return 0;
}

static int take_name(struct join *j, const char *arg)
{
	if (!node_name_valid(arg))
		return bad("'%s' cannot be a node's name: use lower-case letters, digits, '.', '_' and '-'",
			   arg);
	snprintf(j->node, sizeof(j->node), "%s", arg);
	return 0;
}

/* 1: help was asked for. */
static int parse(int argc, char **argv, struct join *j)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },	{ "dir", required_argument, NULL, 's' },
		{ "name", required_argument, NULL, 'n' },	{ "config", required_argument, NULL, 'c' },
		{ "token-file", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c, r = 0;

	for (int i = 1; i < argc; i++)
		if (refuse_secret(argv[i]) < 0)
			return -EINVAL;
	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return 1;
		else if (c == 's')
			j->dir = optarg;
		else if (c == 'c')
			j->config = optarg;
		else if (c == 't')
			j->token_file = optarg;
		else
			r = c == 'n' ? take_name(j, optarg) : -EINVAL;
	}
	for (; r == 0 && optind < argc; optind++)
		r = take_address(j, argv[optind]);
	if (r == 0 && j->id.coord_port == 0)
		r = bad("say where the coordinator is: %s", "nodeagentd join HOST:PORT");
	return r;
}

static int refuse_second(const struct join *j, struct err *e)
{
	struct node_identity id;

	if (identity_load(j->dir, &id, NULL) < 0)
		return 0;
	if (memcmp(id.coord_key, j->token.coord_key, KEY_HASH) == 0)
		return 0; /* back into the same one: the coordinator says whether it was removed */
	return err_set(e, EEXIST, "this host is node %s of cluster %s already. To join another cluster, "
		       "stop the agent and remove %s/node.ini", id.node, id.cluster, j->dir);
}

static void warn_of_loopback(const struct join *j)
{
	char text[512], host[256] = "";

	if (enrol_loopback_mistake(j->id.coord_host, text, sizeof(text)) ||
	    (gethostname(host, sizeof(host) - 1) == 0 &&
	     enrol_loopback_mistake(host, text, sizeof(text))))
		fprintf(stderr, "nodeagentd join: warning: %s\n", text);
}

static int prepare(struct join *j, struct err *e)
{
	int r = j->node[0] ? 0 : enrol_host_name(j->node, e);

	if (r == 0)
		r = read_token(j, e);
	if (r == 0)
		r = refuse_second(j, e);
	if (r == 0)
		r = dir_make_all(j->dir, 0700, e);
	if (r == 0)
		r = tls_make_identity(j->dir, e);
	if (r == 0)
		r = tls_context_create(j->dir, &j->tls, e);
	memcpy(j->id.coord_key, j->token.coord_key, KEY_HASH);
	return r;
}

static int join(struct join *j, bool own_dir)
{
	struct err e = { 0 };
	int r = prepare(j, &e);

	if (r == 0) {
		warn_of_loopback(j);
		converse(j);
		tls_context_destroy(j->tls);
	}
	explicit_bzero(&j->token, sizeof(j->token));
	if (r == 0 && j->joined && !own_dir)
		r = enrol_hand_over(j->dir, DAEMON_USER, &e);
	if (r < 0)
		fprintf(stderr, "nodeagentd join: %s\n", e.text);
	if (r < 0 || !j->joined)
		return 1;

	printf("This host is now node %s of cluster %s.\nStart it: ", j->id.node, j->id.cluster);
	if (own_dir)
		printf("nodeagentd --agent --dir %s\nand then: nodectl --dir %s status\n", j->dir, j->dir);
	else
		printf("systemctl enable --now nodeagentd\n");
	return 0;
}

int enrol_join_main(int argc, char **argv)
{
	struct join j = { 0 };
	struct settings s;
	struct err e = { 0 };
	bool own_dir;
	int r = parse(argc, argv, &j);

	if (r != 0) {
		fputs(r > 0 ? usage : "", stdout);
		return r > 0 ? 0 : 2;
	}

	settings_init(&s);
	own_dir = j.dir != NULL;
	r = settings_load(&s, j.config, &e);
	if (r < 0)
		fprintf(stderr, "nodeagentd join: %s\n", e.text);
	if (!j.dir)
		j.dir = s.agent_state;
	signal(SIGPIPE, SIG_IGN);
	r = r < 0 ? 1 : join(&j, own_dir);
	settings_finish(&s);
	return r;
}
