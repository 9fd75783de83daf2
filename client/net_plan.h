/* net_plan.h - NCCL's network of a job: what is set, by whom, and why */
#ifndef NA_CLIENT_NET_PLAN_H
#define NA_CLIENT_NET_PLAN_H

#include "client/commands.h"
#include "client/launch.h"
#include "client/out.h"

/* one_node: then people want to hear of it only if something is set. "net", "net_text" and "net_settings" of docs/json.md. values: "NAME=value" of the
 * owner's own, to be shown where they are known; or NULL. */
void net_plan_render(struct out *o, const struct rec_net_plan *p, bool one_node, char *const *values);
/* Names of the variables about the network that the job brings along, into the
 * request; and whether they contradict --net. CTL_GO, or an exit code and a sentence. */
int net_plan_yours(const struct ctl *c, struct launch *w);
/* Asks the coordinator what would become of the job, and shows it; or why it does not tell. False: it has said that
 * the job would not start now. */
bool net_plan_ask(const struct ctl *c, const struct launch *w, struct out *o);

#endif
