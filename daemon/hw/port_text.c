/* port_text.c - see port_text.h
 *
 * Numbers: IBTA's PortInfo as <infiniband/verbs.h> has them. Rates are those
 * that ibstat prints: whole steps of 0.1 Gb/s per lane, not signalling rates. */
#include "hw/port_text.h"

#include <stdio.h>
#include <string.h>

static const char *const states[] = {
	[1] = "Down", [2] = "Initializing", [3] = "Armed", [4] = "Active", [5] = "ActiveDefer",
};

static const char *const phys_states[] = {
	[1] = "Sleep",	[2] = "Polling",	   [3] = "Disabled", [4] = "Training",
	[5] = "LinkUp", [6] = "LinkErrorRecovery", [7] = "PhyTest",
};

/* One row for each speed: verbs' number and what one lane carries. */
static const struct {
	const char *name;
	unsigned code;
	uint32_t mbps;
} speeds[] = {
	{ "SDR", 1, 2500 },    { "DDR", 2, 5000 },    { "QDR", 4, 10000 },
	{ "FDR10", 8, 10000 }, { "FDR", 16, 14000 },  { "EDR", 32, 25000 },
	{ "HDR", 64, 50000 },  { "NDR", 128, 100000 }, { "XDR", 256, 200000 },
};
#define N_SPEEDS (sizeof speeds / sizeof speeds[0])

static int digit(char c, unsigned base)
{
	int v = -1;

	if (c >= '0' && c <= '9')
		v = c - '0';
	else if (c >= 'a' && c <= 'f')
		v = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		v = c - 'A' + 10;
	return v >= 0 && (unsigned)v < base ? v : -1;
}

/* Digits at *text, which is moved behind them. */
static bool take_number(const char **text, unsigned base, uint64_t max, uint64_t *ret)
{
	const char *p = *text;
	uint64_t v = 0;
	int d;

	for (; (d = digit(*p, base)) >= 0; p++) {
		if (v > (max - (uint64_t)d) / base || (uint64_t)d > max)
			return false;
		v = v * base + (uint64_t)d;
	}
	if (p == *text)
		return false;
	*text = p;
	*ret = v;
	return true;
}

bool text_number(const char *text, uint64_t max, uint64_t *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *p = text + (hex ? 2 : 0);
	uint64_t v;

	if (!take_number(&p, hex ? 16 : 10, max, &v) || *p)
		return false;
	*ret = v;
	return true;
}

const char *port_state_name(unsigned state)
{
	return state < sizeof states / sizeof states[0] ? states[state] : NULL;
}

const char *port_phys_name(unsigned phys_state)
{
	return phys_state < sizeof phys_states / sizeof phys_states[0] ? phys_states[phys_state] :
									 NULL;
}

/* "N: words": the words differ between kernels, the number does not */
static bool numbered(const char *text, unsigned *ret)
{
	uint64_t v;

	if (!take_number(&text, 10, 255, &v) || *text != ':')
		return false;
	*ret = (unsigned)v;
	return true;
}

const char *text_state(const char *text)
{
	unsigned v;

	return numbered(text, &v) ? port_state_name(v) : NULL;
}

const char *text_phys_state(const char *text)
{
	unsigned v;

	return numbered(text, &v) ? port_phys_name(v) : NULL;
}

static bool known_lanes(uint64_t lanes)
{
	return lanes == 1 || lanes == 2 || lanes == 4 || lanes == 8 || lanes == 12;
}

static bool take_words(const char **text, const char *words)
{
	size_t n = strlen(words);

	if (strncmp(*text, words, n) != 0)
		return false;
	*text += n;
	return true;
}

/* "100" or "2.5" */
static bool take_gbps(const char **text, uint32_t *ret_mbps)
{
	uint64_t whole, tenth = 0;

	if (!take_number(text, 10, 100000, &whole))
		return false;
	if (take_words(text, ".") && !take_number(text, 10, 9, &tenth))
		return false;
	*ret_mbps = (uint32_t)(whole * 1000 + tenth * 100);
	return *ret_mbps > 0;
}

static const char *speed_named(const char *name, size_t n)
{
	for (size_t i = 0; i < N_SPEEDS; i++)
		if (strlen(speeds[i].name) == n && memcmp(speeds[i].name, name, n) == 0)
			return speeds[i].name;
	return NULL;
}

bool text_rate(const char *text, struct port_rate *ret)
{
	struct port_rate r = { 0 };
	const char *end;
	uint64_t lanes;

	if (!take_gbps(&text, &r.mbps) || !take_words(&text, " Gb/sec (") ||
	    !take_number(&text, 10, 64, &lanes) || !known_lanes(lanes) || !take_words(&text, "X"))
		return false;
	end = strchr(text, ')');
	if (!end || end[1] || (*text != ' ' && text != end))
		return false;
	r.lanes = (uint32_t)lanes;
	if (*text == ' ') /* kernels before 3.10 name no speed for SDR */
		r.speed = speed_named(text + 1, (size_t)(end - text - 1));
	*ret = r;
	return true;
}

const char *text_link_layer(const char *text)
{
	static const char *const layers[] = { "InfiniBand", "Ethernet" };

	for (size_t i = 0; i < 2; i++)
		if (strcmp(text, layers[i]) == 0)
			return layers[i];
	return strcmp(text, "Unknown") == 0 ? "Unspecified" : NULL; /* the kernel's word for neither: Amazon's EFA */
}

bool text_gid(const char *text, bool *ret_used)
{
	bool used = false;

	for (size_t i = 0; i < 39; i++) {
		if (i % 5 == 4 ? text[i] != ':' : digit(text[i], 16) < 0)
			return false; /* the NUL of a shorter text ends here too */
		used = used || (i % 5 != 4 && text[i] != '0');
	}
	if (text[39])
		return false;
	*ret_used = used;
	return true;
}

/* domain:bus:device.function, in lower- or upper-case hex */
static bool is_pci(const char *p, size_t n)
{
	size_t colon = (size_t)((const char *)memchr(p, ':', n) - p);

	if (n != colon + 8 || colon < 4 || colon > 8)
		return false;
	for (size_t i = 0; i < n; i++) {
		char want = i == colon || i == colon + 3 ? ':' : i == colon + 6 ? '.' : '\0';

		if (want ? p[i] != want : digit(p[i], i == colon + 7 ? 8 : 16) < 0)
			return false;
	}
	return true;
}

bool text_pci(const char *path, char out[HW_PCI_SIZE])
{
	size_t end = strlen(path);

	while (end > 0) {
		size_t from = end;

		while (from > 0 && path[from - 1] != '/')
			from--;
		if (memchr(path + from, ':', end - from) && is_pci(path + from, end - from)) {
			memcpy(out, path + from, end - from);
			out[end - from] = '\0';
			return true;
		}
		end = from > 0 ? from - 1 : 0;
	}
	return false;
}

uint32_t port_lanes(unsigned active_width)
{
	switch (active_width) {
	case 1:
		return 1;
	case 2:
		return 4;
	case 4:
		return 8;
	case 8:
		return 12;
	case 16:
		return 2;
	default:
		return 0;
	}
}

bool port_rate_of(unsigned active_speed, uint32_t lanes, struct port_rate *ret)
{
	if (lanes == 0)
		return false;
	for (size_t i = 0; i < N_SPEEDS; i++)
		if (speeds[i].code == active_speed) {
			*ret = (struct port_rate){ lanes * speeds[i].mbps, lanes, speeds[i].name };
			return true;
		}
	return false;
}
