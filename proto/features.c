/* features.c - see features.h */
#include "proto/features.h"

#include <stdio.h>
#include <string.h>

enum { RESTARTS = 1, SPARES = 2, TIME = 4, NET = 8, ON_HANG = 32, STACKS = 256 };
/* FEATURE_EVENTS is 16, FEATURE_FIX_SM 64, FEATURE_BASE 1024 */

static const struct feature {
	uint32_t bit;
	const char *name, *option;
} table[] = {
	{ RESTARTS, "restarts", "--max-restarts" },
	{ SPARES, "spares", "--spares" },
	{ TIME, "time", "--time" },
	{ NET, "net", "--net" },
	{ ON_HANG, "on-hang", "--on-hang" },
	{ STACKS, "hang-stacks", "--on-hang stacks" },
	{ FEATURE_EVENTS, "events", "'nodectl events'" },
	{ FEATURE_BASE, "base", "a baseline of 'nodectl check nccl'" },
	{ FEATURE_FIX_SM, "fix-sm", "'nodectl fix sm'" },
};

#define COUNT (sizeof(table) / sizeof(table[0]))

void features_fill(struct rec_welcome *w)
{
	static const char *names[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		names[i] = table[i].name;
	w->features = names;
	w->n_features = COUNT;
}

uint32_t features_of(const struct rec_welcome *w)
{
	uint32_t bits = 0;

	for (size_t k = 0; k < w->n_features; k++)
		for (size_t i = 0; i < COUNT; i++)
			if (strcmp(w->features[k], table[i].name) == 0)
				bits |= table[i].bit;
	return bits;
}

uint32_t features_needed(const struct rec_submit *s)
{
	bool acts = s->on_hang != NULL && strcmp(s->on_hang, "report") != 0;

	return (s->max_restarts != 0 ? RESTARTS : 0) | (s->spares != 0 ? SPARES : 0) | (s->time_s != 0 ? TIME : 0) |
	       (s->net != NULL ? NET : 0) | (acts ? ON_HANG : 0) | (s->hang_stacks ? STACKS : 0);
}

uint32_t features_of_plan(void)
{
	return NET;
}

const char *features_option(uint32_t bits)
{
	for (size_t i = 0; i < COUNT; i++)
		if (bits & table[i].bit)
			return table[i].option;
	return NULL;
}

void features_say(char *out, size_t size, const char *who, const char *where, const char *software, uint32_t known,
		  const char *option)
{
	snprintf(out, size, known != 0 ? "the %s at %.200s (version %.40s) does not know %s and would ignore it: leave it out, "
					 "or have the %s updated (what runs goes on meanwhile)" :
					 "the %s at %.200s (version %.40s) is older than this program and does not say that it "
					 "knows %s, so it might ignore it: leave it out, or have the %s updated (what runs "
					 "goes on meanwhile)",
		 who, where, software, option, who);
}
