/* report.h - what a check says: one JSON object a line on stdout
 *
 * Kinds: env, result, problem, finding, end; docs/json.md describes them.
 */
#ifndef NA_NCCL_REPORT_H
#define NA_NCCL_REPORT_H

#include "nccl/bisect.h"
#include "nccl/team.h"

/* Who takes part, with which libraries. */
void report_env(const struct cast *c);
/* All operations of a team; scope "inside" or "between". node NULL: several. */
void report_results(const struct cast *c, const struct team *t, const char *scope, const char *node);
/* A team that failed: who is to blame, and what to do. */
void report_failed(const struct cast *c, const struct team *t, const char *scope, const char *node);
/* Anything else that ends a check. */
void report_problem(const char *text, const char *fix);
void report_warning(const char *text, const char *fix);
void report_note(const char *text, const char *fix); /* nothing is wrong */
/* What a search has found; names of nodes by the cast's index. */
void report_finding(const struct cast *c, const struct bisect_finding *f, uint32_t round);
/* A node whose inside is slow beside the others'. */
void report_slow(const char *node, double got, double usual, const char *of);
void report_end(bool good, double seconds, const char *text);

#endif
