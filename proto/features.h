/* features.h - options of a job that a peer of an older version would ignore
 *
 * Fields that a receiver does not know are dropped without a word, and a job
 * would run without what was asked for. So each side names in 'welcome' what it
 * knows, and whoever sends a 'submit' compares before. A 'welcome' without
 * names is of a version before them: it knows none of these.
 */
#ifndef NA_PROTO_FEATURES_H
#define NA_PROTO_FEATURES_H

#include "proto/message.h"

#define FEATURE_EVENTS 16u /* no option, but a request that an older one would not answer */
#define FEATURE_BASE 1024u /* as well */
#define FEATURE_FIX_SM 64u /* the same */

/* What this version knows, for 'welcome'; the list is static. */
void features_fill(struct rec_welcome *w);
/* The other side's, as bits. Names that are not known here are passed over. */
uint32_t features_of(const struct rec_welcome *w);
/* What a job needs, as bits. */
uint32_t features_needed(const struct rec_submit *s);
/* What 'plan_get' needs, as bits: it came together with --net. */
uint32_t features_of_plan(void);
/* The option that stands for one of these bits ("--max-restarts"); NULL: none is set. */
const char *features_option(uint32_t bits);

/* Why it is not sent there: "the coordinator at head:7070 (version 0.1.0) ...", with what to do. Who names
 * no features at all is of a version before them, and may know the option all the same. */
void features_say(char *out, size_t size, const char *who, const char *where, const char *software, uint32_t known,
		  const char *option);

#endif
