/* wire.h - the line between the conductor and a rank: one JSON object a line
 *
 * Rank to conductor: hello, id, ok, done, waits, fail. Conductor to rank: id,
 * join, verify, time, leave, quit: each but quit has one answer; and stop, which has
 * none: the answer that is waited for shall come now. Plain TCP at the job's MASTER_ADDR, as
 * torchrun's own store: whoever is in that network may disturb a check, and
 * learns nothing from it.
 */
#ifndef NA_NCCL_WIRE_H
#define NA_NCCL_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "nccl/abi.h"

#define WIRE_LINE_MAX 8192

struct wire {
	int fd; /* -1: none */
	struct buf in;
};

void wire_init(struct wire *w, int fd);
void wire_finish(struct wire *w); /* closes */
/* One object; adds the newline. -errno: the other side has gone or does not read. */
int wire_send(struct wire *w, struct buf *line);
/* Reads what is there. 0: the other side has closed; -EAGAIN; -EMSGSIZE: too long a line. */
int wire_fill(struct wire *w);
/* The next whole line; NULL: none yet, or (*ret_bad) it is no message. Caller frees with cJSON_Delete. */
cJSON *wire_next(struct wire *w, bool *ret_bad);

/* Members; softly: "" and 0 when absent or of another type. */
const char *wire_str(const cJSON *m, const char *key);
double wire_num(const cJSON *m, const char *key);
bool wire_is(const cJSON *m, const char *what); /* "m" */

/* A message begun: {"m":what */
void wire_begin(struct jw *w, struct buf *b, const char *what);

void wire_id_text(const struct nccl_id *id, char out[257]);
bool wire_id_parse(const char *text, struct nccl_id *ret);

/* The conductor's listener. The address is a number or a name; port 1-65535. */
int wire_listen(const char *address, const char *port, int *ret_fd, struct err *e);
/* Tries until the time has passed. */
int wire_connect(const char *address, const char *port, int timeout_ms, int *ret_fd, struct err *e);

#endif
