/* tls.h - TLS 1.3 with pinned keys (OpenSSL)
 *
 * Ed25519 keys, self-signed carriers, no CA, no tickets, no resumption, no
 * early data. Who somebody is = SHA-256 of its SubjectPublicKeyInfo.
 */
#ifndef NA_IO_TLS_H
#define NA_IO_TLS_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "common/err.h"

#define KEY_HASH 32

struct tls_context;

/* Makes STATE/key.pem (0600) and cert.pem when absent. */
int tls_make_identity(const char *state_dir, struct err *e);
int tls_context_create(const char *state_dir, struct tls_context **ret, struct err *e);
void tls_context_destroy(struct tls_context *t);
const uint8_t *tls_own_key(const struct tls_context *t); /* KEY_HASH bytes */
/* A connection without BIOs; link_tls.c gives it its own, which move the bytes. */
SSL *tls_new(struct tls_context *t, int server);
/* The handshake fails unless the peer's key is this one (borrowed; NULL: any). */
void tls_pin(SSL *s, const uint8_t *pin);
int tls_peer_key(SSL *s, uint8_t out[KEY_HASH]); /* -ENOENT without a certificate */
void tls_sha256(const void *p, size_t n, uint8_t out[32]);

#endif
