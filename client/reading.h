/* reading.h - what a probe has read, as people see it: rates, clocks, memory
 *
 * What is not known is "?": neither 0 nor well. Nothing is judged here: which
 * clock is marked is the coordinator's word. All functions append.
 */
#ifndef NA_CLIENT_READING_H
#define NA_CLIENT_READING_H

#include "common/buf.h"
#include "proto/message.h"

/* "200 Gb/s 4X HDR", "2.5 Gb/s"; "-" of a port that is down: its rate says nothing. */
void reading_rate(struct buf *b, const struct rec_port *p);
/* "0.5/80 GiB". */
void reading_memory(struct buf *b, const struct rec_gpu *g);
/* "31 GiB", "512 MiB" */
void reading_bytes(struct buf *b, uint64_t bytes);
/* "61/400W", "61W" */
void reading_power(struct buf *b, const struct rec_gpu *g);
/* Takes the next range off a list of numbers such as "0-3,7"; false at its end
 * and at what is none. Ranges over 65536 numbers are cut to the first. */
bool reading_range(const char **list, unsigned *ret_first, unsigned *ret_last);

/* "ref" on the coordinator's host, "+0.4ms", "-2.1s!", "?". */
void reading_skew(struct buf *b, const struct rec_node_info *n);
/* The same for several nodes whose clocks are about equally wrong: "<10ms", "<1s!". */
void reading_skew_about(struct buf *b, const struct rec_node_info *n);
/* True when the coordinator says that the clock misleads people, and so in its attention. */
bool reading_skew_bad(const struct rec_node_info *n);
/* "0.4 ms ahead of the coordinator's clock (+-0.2 ms)"; for one node's page. */
void reading_clock(struct buf *b, const struct rec_node_info *n);
/* "<1m" "<10m" "<1h" "<1d" ">1d" of an age. */
void reading_age_about(struct buf *b, uint64_t ms);

#endif
