/* nccl_log.c - see nccl_log.h */
#include "common/nccl_log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_READ 2048

static void copy(char *out, size_t size, const char *from, size_t len)
{
	size_t n = 0;

	for (; n < len && n + 1 < size; n++)
		out[n] = from[n] >= ' ' && from[n] < 0x7f ? from[n] : '?';
	out[n] = '\0';
}

/* Up to one of these characters, or the end. */
static void copy_to(char *out, size_t size, const char *from, const char *stops)
{
	copy(out, size, from, strcspn(from, stops));
}

/* Where the words go on after 'head', blanks left out on both sides of colons; NULL: elsewhere. */
static const char *after(const char *text, const char *head)
{
	const char *at = text;

	for (; *head; head++) {
		if (*head == ':')
			at += strspn(at, " ");
		if (*at != *head)
			return NULL;
		at++;
		if (*head == ':')
			at += strspn(at, " ");
	}
	return at;
}

static const char *find_after(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	return at ? at + strlen(word) : NULL;
}

/* ---- what it uses ------------------------------------------------------------ */

static bool on_version(struct nccl_log *l, const char *rest)
{
	copy_to(l->version, sizeof l->version, rest, "+ \t");
	return true;
}

/* "eth0:10.0.0.1<0>" */
static bool on_bootstrap(struct nccl_log *l, const char *rest)
{
	copy_to(l->bootstrap, sizeof l->bootstrap, rest, "< ");
	return true;
}

/* "[0]mlx5_0:1/IB [1]mlx5_1:1/RoCE [RO]; OOB eth0:10.0.0.1<0>" */
static bool on_ib(struct nccl_log *l, const char *rest)
{
	l->n_hcas = 0;
	l->roce = false;
	for (const char *at = rest; (at = strchr(at, '[')) != NULL && l->n_hcas < NCCL_LOG_HCAS; at++) {
		const char *end = strchr(at, ']');

		if (!end || !isdigit((unsigned char)at[1]))
			continue; /* "[RO]" */
		end++;
		if (strcspn(end, "/ ;[") == 0)
			continue;
		copy_to(l->hcas[l->n_hcas++], sizeof l->hcas[0], end, "/ ;[");
		end += strcspn(end, "/ ;[");
		l->roce = l->roce || strncmp(end, "/RoCE", 5) == 0;
	}
	return true;
}

static bool on_no_ib(struct nccl_log *l, const char *rest)
{
	(void)rest;
	l->no_ib_device = true;
	return true;
}

/* "[0]eth0:10.0.0.1<0>" */
static bool on_socket(struct nccl_log *l, const char *rest)
{
	const char *end = strchr(rest, ']');

	copy_to(l->socket_if, sizeof l->socket_if, end ? end + 1 : rest, "<: ");
	return true;
}

static bool on_network(struct nccl_log *l, const char *rest)
{
	copy_to(l->net, sizeof l->net, rest, " \t");
	return true;
}

static bool on_init(struct nccl_log *l, const char *rest)
{
	if (strstr(rest, "Init START"))
		l->inits++;
	else if (strstr(rest, "Init COMPLETE"))
		l->inits_done++;
	else
		return false;
	return true;
}

/* "00/0 : 0[0] -> 1[0] [send] via NET/IB/0/GDRDMA(PCI)/Shared" */
static bool on_channel(struct nccl_log *l, const char *rest)
{
	const char *via = find_after(rest, " via ");

	if (!via)
		return false;
	if (strncmp(via, "P2P", 3) == 0)
		l->p2p++;
	else if (strncmp(via, "SHM", 3) == 0 || strncmp(via, "direct shared memory", 20) == 0)
		l->shm++;
	else if (strncmp(via, "NET", 3) != 0)
		return false;
	else {
		l->sends_net++;
		l->gdr += strstr(via, "/GDRDMA") != NULL;
	}
	return true;
}

/* "NET set by environment to IB" or "IB_HCA set to mlx5_0" */
static const char *value_of(const char *rest, const char *name)
{
	size_t n = strlen(name);

	if (strncmp(rest, name, n) != 0 || strncmp(rest + n, " set ", 5) != 0)
		return NULL;
	return find_after(rest + n, " to ");
}

static bool on_set(struct nccl_log *l, const char *rest)
{
	const char *v;

	v = find_after(rest, "IB_DISABLE set by environment to ");
	if (v && strtol(v, NULL, 10) != 0)
		l->ib_disabled = true;
	v = value_of(rest, "NET");
	if (v) {
		l->net_asked = true;
		copy_to(l->net_wanted, sizeof l->net_wanted, v, " .");
	}
	v = value_of(rest, "IB_HCA");
	if (v)
		copy_to(l->ib_hca, sizeof l->ib_hca, v, " ");
	return true;
}

static bool on_failed_plugin(struct nccl_log *l, const char *rest)
{
	if (strncmp(rest, "IB", 2) != 0 || l->ib_why[0])
		return false;
	copy(l->ib_why, sizeof l->ib_why, "the IB plug-in does not begin", 29);
	return true;
}

/* "device mlx5_0" */
static bool on_unopened(struct nccl_log *l, const char *rest)
{
	snprintf(l->ib_why, sizeof l->ib_why, "%.200s cannot be opened", rest);
	return true;
}

/* ".so[.1]" */
static bool on_no_library(struct nccl_log *l, const char *rest)
{
	(void)rest;
	snprintf(l->ib_why, sizeof l->ib_why, "libibverbs.so cannot be loaded");
	return true;
}

/* How the words after the prefix begin. */
static const struct {
	const char *head;
	bool (*f)(struct nccl_log *l, const char *rest);
} heads[] = {
	{ "NCCL version ", on_version },
	{ "Bootstrap:Using ", on_bootstrap },
	{ "NET/IB:No device found", on_no_ib },
	{ "NET/IB:Using ", on_ib },
	{ "NET/Socket:Using ", on_socket },
	{ "Using network ", on_network },
	{ "ncclCommInit", on_init },
	{ "comm 0x", on_init }, /* until 2.18 */
	{ "Channel ", on_channel },
	{ "NCCL_", on_set },
	{ "Failed to initialize NET plugin ", on_failed_plugin },
	{ "NET/IB:Unable to open ", on_unopened },
	{ "Failed to open libibverbs", on_no_library },
};

/* ---- what goes wrong ---------------------------------------------------------- */

static int number_after(const char *text, const char *word)
{
	const char *at = find_after(text, word);

	return at ? (int)strtol(at, NULL, 10) : 0;
}

/* "status=IBV_WC_RETRY_EXC_ERR(12)" or, older, "with error 12" */
static void read_completion(struct nccl_log *l, const char *text)
{
	const char *at = find_after(text, "status="), *peer = find_after(text, "from peer ");

	if (at && (at = strchr(at, '(')) != NULL)
		l->number = (int)strtol(at + 1, NULL, 10);
	else if (at)
		l->number = 0;
	else
		l->number = number_after(text, "with error ");
	if (!peer && (peer = find_after(text, "peer ")) == NULL)
		peer = find_after(text, "remoteGidStr ");
	if (peer)
		copy_to(l->peer, sizeof l->peer, peer, "< ");
	if ((at = find_after(text, "hca ")) != NULL)
		copy_to(l->dev, sizeof l->dev, at, ": ,");
}

/* "Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_0:1, ... remote GID ..." */
static void read_modify_qp(struct nccl_log *l, const char *text)
{
	const char *at = find_after(text, "on dev ");

	l->number = number_after(text, "failed with ");
	if (!l->number)
		l->number = number_after(text, "failed with error ");
	if (at)
		copy_to(l->dev, sizeof l->dev, at, ":, ");
	at = find_after(text, "remote GID ");
	if (at)
		copy_to(l->peer, sizeof l->peer, at, ", ");
}

static void read_event(struct nccl_log *l, const char *text)
{
	const char *at = after(text, "NET/IB:");

	if (at && strchr(at, ':'))
		copy_to(l->dev, sizeof l->dev, at, ": ");
}

static const struct {
	const char *words, *also; /* both are in the line; also NULL: any */
	enum nccl_trouble what;
	void (*read)(struct nccl_log *l, const char *text);
} troubles[] = {
	{ "Got completion", "status=", NCCL_COMPLETION, read_completion },
	{ "Got completion", "with error", NCCL_COMPLETION, read_completion },
	{ "ibv_modify_qp failed", NULL, NCCL_MODIFY_QP, read_modify_qp },
	{ "async fatal event", NULL, NCCL_ASYNC_EVENT, read_event },
	{ "non-fatal async event", "error", NCCL_ASYNC_EVENT, read_event },
	{ "ibv_reg_mr", "Cannot allocate memory", NCCL_MEMLOCK, NULL },
	{ "Mismatched NCCL version", NULL, NCCL_VERSIONS, NULL },
	{ "Duplicate GPU", NULL, NCCL_DUPLICATE_GPU, NULL },
	{ "Connection closed by remote peer", NULL, NCCL_PEER_GONE, NULL },
	{ "Failed to initialize any NET plugin", NULL, NCCL_NO_NET, NULL },
	{ "Cuda failure", NULL, NCCL_CUDA, NULL },
};

/* Another rank's end, and words that only pass an error on, are no cause. */
static bool is_cause(enum nccl_trouble t)
{
	return t != NCCL_FINE && t != NCCL_PEER_GONE && t != NCCL_OTHER;
}

static bool on_trouble(struct nccl_log *l, enum nccl_trouble what, const char *text,
		       void (*read)(struct nccl_log *, const char *))
{
	if (l->trouble != NCCL_FINE && (is_cause(l->trouble) || !is_cause(what)))
		return false;
	l->trouble = what;
	l->number = 0;
	l->dev[0] = l->peer[0] = '\0';
	copy(l->text, sizeof l->text, text, strlen(text));
	if (read)
		read(l, text);
	return true;
}

static bool find_trouble(struct nccl_log *l, const char *text, bool warn)
{
	for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++)
		if (strstr(text, troubles[i].words) && (!troubles[i].also || strstr(text, troubles[i].also)))
			return on_trouble(l, troubles[i].what, text, troubles[i].read);
	return warn && on_trouble(l, NCCL_OTHER, text, NULL);
}

const char *nccl_trouble_text(enum nccl_trouble t)
{
	static const char *const texts[] = {
		[NCCL_FINE] = "no trouble",
		[NCCL_COMPLETION] = "a transfer failed: the peer stopped answering, or a link failed",
		[NCCL_MODIFY_QP] = "no path to the peer",
		[NCCL_ASYNC_EVENT] = "the device told of an error",
		[NCCL_MEMLOCK] = "memory could not be registered: the limit of locked memory (memlock) is too low",
		[NCCL_VERSIONS] = "the ranks have different versions of NCCL",
		[NCCL_DUPLICATE_GPU] = "two ranks use the same GPU",
		[NCCL_PEER_GONE] = "another rank ended first",
		[NCCL_NO_NET] = "the network that was asked for cannot be had",
		[NCCL_CUDA] = "a CUDA call failed",
		[NCCL_OTHER] = "a warning",
	};

	return (unsigned)t < sizeof texts / sizeof texts[0] ? texts[t] : "?";
}

static const char *const trouble_names[] = {
	[NCCL_COMPLETION] = "completion", [NCCL_MODIFY_QP] = "modify-qp", [NCCL_ASYNC_EVENT] = "async-event",
	[NCCL_MEMLOCK] = "memlock", [NCCL_VERSIONS] = "versions", [NCCL_DUPLICATE_GPU] = "duplicate-gpu",
	[NCCL_PEER_GONE] = "peer-gone", [NCCL_NO_NET] = "no-net", [NCCL_CUDA] = "cuda", [NCCL_OTHER] = "other",
};

const char *nccl_trouble_name(enum nccl_trouble t)
{
	return (unsigned)t <= NCCL_OTHER ? trouble_names[t] : NULL;
}

enum nccl_trouble nccl_trouble_of(const char *name)
{
	for (int i = NCCL_COMPLETION; i < NCCL_OTHER; i++)
		if (strcmp(name, trouble_names[i]) == 0)
			return (enum nccl_trouble)i;
	return NCCL_OTHER;
}

/* ---- lines -------------------------------------------------------------------- */

/* "host:pid:tid [dev] NCCL INFO words", a timestamp and a source place may stand
 * before it, and a place after WARN; or the version's bare line. NULL: not NCCL's. */
static const char *words_of(const char *line, bool *ret_warn)
{
	const char *at = strstr(line, "NCCL INFO "), *warn = strstr(line, "NCCL WARN ");

	*ret_warn = false;
	if (at && (!warn || at < warn))
		return at + 10;
	if (warn) {
		*ret_warn = true;
		return warn + 10;
	}
	return strncmp(line, "NCCL version ", 13) == 0 ? line : NULL;
}

bool nccl_log_line(struct nccl_log *l, const char *line, size_t len)
{
	char text[LINE_MAX_READ];
	const char *words, *rest;
	bool warn;

	copy(text, sizeof text, line, len);
	words = words_of(text, &warn);
	if (!words)
		return false;
	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
		if ((rest = after(words, heads[i].head)) != NULL && heads[i].f(l, rest))
			return true;
	return find_trouble(l, words, warn);
}

uint32_t nccl_log_pid(const char *line, size_t len)
{
	char text[256];
	const char *at;
	uint32_t pid = 0;

	copy(text, sizeof text, line, len);
	at = strstr(text, " NCCL ");
	if (!at)
		return 0;
	/* a time before it ("10:02:11") is of the same form: the last one counts */
	for (const char *p = strchr(text, ':'); p && p < at; p = strchr(p + 1, ':')) {
		char *end;
		unsigned long v = strtoul(p + 1, &end, 10);

		if (end > p + 1 && *end == ':' && isdigit((unsigned char)end[1]) && v > 0 && v <= 4194304)
			pid = (uint32_t)v;
	}
	return pid;
}
