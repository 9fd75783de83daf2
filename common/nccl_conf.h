/* nccl_conf.h - which variables a configuration file of NCCL sets
 *
 * NCCL reads NCCL_CONF_FILE, or else .nccl.conf in the home directory, and then
 * /etc/nccl.conf: lines NAME=value, those that begin with # are comments. What the
 * environment has wins over them, so whoever sets a variable there for somebody
 * else must know which names these files have. Values are nobody's business here.
 */
#ifndef NA_COMMON_NCCL_CONF_H
#define NA_COMMON_NCCL_CONF_H

#include <stdbool.h>
#include <stddef.h>

#define NCCL_CONF_NAMES 64 /* further ones are passed over */
#define NCCL_CONF_NAME_MAX 64

struct nccl_conf {
	size_t n;
	char names[NCCL_CONF_NAMES][NCCL_CONF_NAME_MAX + 1]; /* only NCCL_*, each once */
};

/* Adds the names of a file's text. */
void nccl_conf_text(const char *text, size_t len, struct nccl_conf *c);
/* Adds those of the files that NCCL would read. home, conf_file: of the one it would
 * run as, NULL when there is none. What is no regular file, or cannot be read, has
 * none. Blocks like any look at a file. */
void nccl_conf_read(const char *home, const char *conf_file, struct nccl_conf *c);
bool nccl_conf_has(const struct nccl_conf *c, const char *name);

#endif
