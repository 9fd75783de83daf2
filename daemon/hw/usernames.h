/* usernames.h - names of users, without waiting for a name service
 *
 * A directory server that does not answer must not stop readings: names are
 * asked for in a thread of its own and kept for ten minutes.
 */
#ifndef NA_HW_USERNAMES_H
#define NA_HW_USERNAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct usernames;

struct usernames *usernames_new(void); /* NULL: no memory or no thread */
void usernames_free(struct usernames *u); /* does not wait for an answer that is still out */
/* The name of a uid, "" while it is not known. Waits up to 50 ms, and only the
 * first time a uid is asked for. 'u' may be NULL. */
void usernames_get(struct usernames *u, uint32_t uid, char *out, size_t size);

#endif
