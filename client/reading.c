/* reading.c - what a probe has read, as people see it; see reading.h */
#include "client/reading.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1024.0 * 1024 * 1024)
#define MIB (1024.0 * 1024)

void reading_rate(struct buf *b, const struct rec_port *p)
{
	if (p->state && strcmp(p->state, "Down") == 0) {
		buf_addc(b, '-');
		return;
	}
	if (!MSG_HAS(p, port, rate_mbps)) {
		buf_addc(b, '?');
		return;
	}
	buf_addf(b, "%g Gb/s", p->rate_mbps / 1000.0);
	if (p->lanes)
		buf_addf(b, " %uX", p->lanes);
	if (p->speed)
		buf_addf(b, " %s", p->speed);
}

void reading_memory(struct buf *b, const struct rec_gpu *g)
{
	bool used = MSG_HAS(g, gpu, mem_used), total = MSG_HAS(g, gpu, mem_total);

	if (!used && !total) {
		buf_addc(b, '?');
		return;
	}
	if (used)
		buf_addf(b, "%.1f/", (double)g->mem_used / GIB);
	else
		buf_adds(b, "?/");
	if (total)
		buf_addf(b, "%.0f GiB", (double)g->mem_total / GIB);
	else
		buf_adds(b, "? GiB");
}

void reading_bytes(struct buf *b, uint64_t bytes)
{
	if (bytes >= 10 * GIB)
		buf_addf(b, "%.0f GiB", (double)bytes / GIB);
	else if (bytes >= GIB)
		buf_addf(b, "%.1f GiB", (double)bytes / GIB);
	else
		buf_addf(b, "%.0f MiB", (double)bytes / MIB);
}

void reading_power(struct buf *b, const struct rec_gpu *g)
{
	bool now = MSG_HAS(g, gpu, power_mw), limit = MSG_HAS(g, gpu, power_limit_mw);

	if (now)
		buf_addf(b, "%u", (g->power_mw + 500) / 1000);
	else
		buf_addc(b, '?');
	if (limit)
		buf_addf(b, "/%u", (g->power_limit_mw + 500) / 1000);
	if (now || limit)
		buf_addc(b, 'W');
}

bool reading_range(const char **list, unsigned *ret_first, unsigned *ret_last)
{
	const char *p = *list;
	unsigned long first, last;
	char *end;

	if (!isdigit((unsigned char)*p))
		return false;
	first = last = strtoul(p, &end, 10) & 0xffffff;
	if (*end == '-' && isdigit((unsigned char)end[1]))
		last = strtoul(end + 1, &end, 10) & 0xffffff;
	*ret_first = (unsigned)first;
	*ret_last = (unsigned)(last < first || last - first > 65535 ? first : last);
	*list = *end == ',' ? end + 1 : end;
	return true;
}

/* ---- clocks -------------------------------------------------------------- */

static uint64_t size_of(const struct rec_node_info *n)
{
	return n->skew_us < 0 ? -(uint64_t)n->skew_us : (uint64_t)n->skew_us;
}

bool reading_skew_bad(const struct rec_node_info *n)
{
	return MSG_HAS(n, node_info, skew_us) && !n->skew_ref && n->skew_bad;
}

/* "0.4ms" "340ms" "2.1s" "13m" "8.0h" "3d", with a blank before the unit or not. */
static void add_span(struct buf *b, uint64_t us, const char *gap)
{
	double s = (double)us / 1e6;

	if (us < 99950)
		buf_addf(b, "%.1f%sms", s * 1000, gap);
	else if (us < 999500)
		buf_addf(b, "%.0f%sms", s * 1000, gap);
	else if (s < 120)
		buf_addf(b, "%.1f%ss", s, gap);
	else if (s < 7200)
		buf_addf(b, "%.0f%sm", s / 60, gap);
	else if (s < 172800)
		buf_addf(b, "%.1f%sh", s / 3600, gap);
	else
		buf_addf(b, "%.0f%sd", s / 86400, gap);
}

/* What needs no number; false when one is to follow. */
static bool skew_word(struct buf *b, const struct rec_node_info *n)
{
	if (n->skew_ref)
		buf_adds(b, "ref");
	else if (!MSG_HAS(n, node_info, skew_us))
		buf_addc(b, '?');
	else
		return false;
	return true;
}

void reading_skew(struct buf *b, const struct rec_node_info *n)
{
	if (skew_word(b, n))
		return;
	buf_addc(b, n->skew_us < 0 ? '-' : '+');
	add_span(b, size_of(n), "");
	if (reading_skew_bad(n))
		buf_addc(b, '!');
}

struct step {
	uint64_t below;
	const char *text;
};

/* The first step that v lies below; the last one has no bound. */
static const char *step_of(const struct step *steps, uint64_t v)
{
	while (steps->below && v >= steps->below)
		steps++;
	return steps->text;
}

void reading_skew_about(struct buf *b, const struct rec_node_info *n)
{
	static const struct step steps[] = { { 10000, "<10ms" },  { 100000, "<100ms" }, { 1000000, "<1s" },
					     { 60000000, "<1m" }, { 3600000000, "<1h" }, { 0, ">1h" } };

	if (skew_word(b, n))
		return;
	buf_adds(b, step_of(steps, size_of(n)));
	if (reading_skew_bad(n))
		buf_addc(b, '!');
}

void reading_clock(struct buf *b, const struct rec_node_info *n)
{
	if (n->skew_ref) {
		buf_adds(b, "the coordinator's own");
	} else if (MSG_HAS(n, node_info, skew_us)) {
		add_span(b, size_of(n), " ");
		buf_addf(b, " %s the coordinator's", n->skew_us < 0 ? "behind" : "ahead of");
		if (MSG_HAS(n, node_info, skew_error_us)) {
			buf_adds(b, " (+-");
			add_span(b, n->skew_error_us, " ");
			buf_addc(b, ')');
		}
	} else {
		buf_adds(b, "difference from the coordinator's not known");
	}
	if (MSG_HAS(n, node_info, clock_synced))
		buf_adds(b, n->clock_synced ? ", synchronised" : ", not synchronised by NTP");
}

void reading_age_about(struct buf *b, uint64_t ms)
{
	static const struct step steps[] = { { 60000, "<1m" },	     { 600000, "<10m" }, { 3600000, "<1h" },
					     { 86400000, "<1d" }, { 0, ">1d" } };

	buf_adds(b, step_of(steps, ms));
}
