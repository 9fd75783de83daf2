/* node_json.h - a node, a GPU and a port as programs get them: see docs/json.md */
#ifndef NA_CLIENT_NODE_JSON_H
#define NA_CLIENT_NODE_JSON_H

#include "client/out.h"
#include "proto/message.h"

/* Members of an object that is open. */
void node_json(struct out *o, const struct rec_node_info *n, bool topology);
void gpu_json(struct out *o, const struct rec_gpu *g);
void port_json(struct out *o, const struct rec_port *p);

#endif
