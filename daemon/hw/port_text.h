/* port_text.h - the words for ports: of sysfs read, of verbs' numbers named
 *
 * Texts come from files that may hold anything. What is not understood is
 * unknown, never 0.
 */
#ifndef NA_HW_PORT_TEXT_H
#define NA_HW_PORT_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "hw/hw.h"

struct port_rate {
	uint32_t mbps; /* lanes times speed */
	uint32_t lanes; /* 1 2 4 8 12 */
	const char *speed; /* NULL: not told, or a word that we do not know */
};

/* The whole text is a number of at most max: decimal, or hex with 0x. */
bool text_number(const char *text, uint64_t max, uint64_t *ret);
/* "4: ACTIVE" -> "Active", in ibstat's words; the number decides. NULL: not understood. */
const char *text_state(const char *text);
/* "5: LinkUp" -> "LinkUp" */
const char *text_phys_state(const char *text);
/* "100 Gb/sec (4X EDR)". A kernel that does not know a speed prints
 * "10 Gb/sec (4X SDR)", as it does for a port that is down (rate_show() in
 * drivers/infiniband/core/sysfs.c): this is not told apart here. */
bool text_rate(const char *text, struct port_rate *ret);
/* "InfiniBand" or "Ethernet" as a constant; NULL: neither. */
const char *text_link_layer(const char *text);
/* True for "fe80:0000:0000:0000:0002:c903:0000:1f2b"; *ret_used: not all zeroes. */
bool text_gid(const char *text, bool *ret_used);
/* The last part of a path that is a PCI address, "0000:17:00.0". */
bool text_pci(const char *path, char out[HW_PCI_SIZE]);

/* Names of verbs' numbers (enum ibv_port_state, phys_state); NULL: unknown. */
const char *port_state_name(unsigned state);
const char *port_phys_name(unsigned phys_state);
/* active_width: 1 2 4 8 16 mean 1 4 8 12 2 lanes; 0: unknown. */
uint32_t port_lanes(unsigned active_width);
/* active_speed (1 2 4 8 16 32 64 128 256) and lanes; false: not known. */
bool port_rate_of(unsigned active_speed, uint32_t lanes, struct port_rate *ret);

#endif
