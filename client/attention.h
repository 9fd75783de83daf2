/* attention.h - what needs a person: one line a matter, the worst first
 *
 * The coordinator judges; here equal judgements of many nodes become one line
 * with a host list, and states that came without a judgement get a remedy.
 */
#ifndef NA_CLIENT_ATTENTION_H
#define NA_CLIENT_ATTENTION_H

#include "client/out.h"
#include "proto/message.h"

/* Lines under the key "attention": of all the nodes and jobs. */
void attention_lines(struct out *o, const struct rec_status *s);
/* Those of one node of this cluster. */
void attention_of_node(struct out *o, const char *cluster, const struct rec_node_info *n);
/* The node's most severe attention, or NULL. */
const struct rec_attention *attention_worst(const struct rec_node_info *n);
/* The beginning of its sentence, without the node's name: "mlx5_2 cable is up; no ..". */
void attention_short(struct buf *b, const struct rec_attention *a, const char *node);

#endif
