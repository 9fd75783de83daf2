/* link_tls.c - TLS on a link: moves bytes between SSL and the socket's queues
 *
 * SSL reads straight from what the socket delivered and writes straight into
 * the wire queue, through a BIO of our own: no BIO pair's buffers, so a TLS
 * link at rest holds what OpenSSL itself needs and nothing else. */
#include "io/link_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>

#define WIRE_SEG 65536u
#define WIRE_BATCH 262144u
/* AES-GCM is good for 2^24.5 records of 16 KiB with one key (RFC 8446, 5.5). */
#define REKEY_BYTES (UINT64_C(64) << 30)

/* ---- the BIO ------------------------------------------------------------ */

static int bio_read(BIO *b, char *out, int n)
{
	struct link *l = BIO_get_data(b);
	size_t k = l->rx_n < (size_t)n ? l->rx_n : (size_t)n;

	BIO_clear_retry_flags(b);
	if (k == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	memcpy(out, l->rx, k);
	l->rx += k;
	l->rx_n -= k;
	return (int)k;
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct link *l = BIO_get_data(b);
	size_t prefer = n > 4096 ? WIRE_SEG : 0;
	char *room = queue_room(&l->wire, (size_t)n, prefer);

	BIO_clear_retry_flags(b);
	if (!room)
		return -1;
	memcpy(room, p, (size_t)n);
	queue_added(&l->wire, (size_t)n);
	return n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static BIO *bio_new(struct link *l)
{
	static BIO_METHOD *method; /* lives as long as the process */
	BIO *b;

	if (!method) {
		method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "link");
		if (!method)
			return NULL;
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
		BIO_meth_set_create(method, bio_create);
	}
	b = BIO_new(method);
	if (b)
		BIO_set_data(b, l);
	return b;
}

/* ---- errors as phrases -------------------------------------------------- */

/* OpenSSL's own texts are not loaded (memory); these are the ones that a
 * person meets. Reasons from 1000 on are alerts of the other side. */
static void tls_failed(struct link *l)
{
	unsigned long code = ERR_peek_last_error();
	int reason = ERR_GET_REASON(ERR_peek_error());
	bool verify = l->ssl && SSL_get_verify_result(l->ssl) == X509_V_ERR_CERT_UNTRUSTED;

	ERR_clear_error();
	if (verify)
		link_kill(l, "the other side has another key than the expected one");
	else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		link_kill(l, "the other side's key is not one Ed25519 key");
	else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
		 reason == SSL_R_UNSUPPORTED_PROTOCOL)
		link_kill(l, "the other side does not speak TLS 1.3");
	else if (reason > SSL_AD_REASON_OFFSET)
		link_killf(l, "the other side ended the TLS connection (alert %d)",
			   reason - SSL_AD_REASON_OFFSET);
	else
		link_killf(l, "TLS error %lx", code);
}

/* ---- handshake ---------------------------------------------------------- */

int link_tls_start(struct link *l, struct tls_context *tls, bool server)
{
	BIO *b;

	l->ssl = tls_new(tls, server);
	b = l->ssl ? bio_new(l) : NULL;
	if (!b) {
		ERR_clear_error();
		return -ENOMEM;
	}

	SSL_set_bio(l->ssl, b, b);
	if (l->has_pin)
		tls_pin(l->ssl, l->pin);
	return 0;
}

static void proved(struct link *l)
{
	l->has_key = tls_peer_key(l->ssl, l->key) == 0;
	if (!l->has_key) {
		link_kill(l, "the other side proved no key");
		return;
	}

	if (l->listener && !listener_admit(l))
		link_kill(l, "not admitted");
	else if (l->state != LS_DEAD)
		link_is_up(l);
	if (l->state != LS_DEAD)
		hub_mark_big(l); /* OpenSSL needs four times as much for a handshake as after it */
}

static void handshake(struct link *l)
{
	int r;

	l->seen += l->rx_n;
	ERR_clear_error();
	r = SSL_do_handshake(l->ssl);
	link_flush(l); /* also an alert that says why */
	if (l->state == LS_DEAD)
		return;
	if (r == 1)
		proved(l);
	else if (SSL_get_error(l->ssl, r) != SSL_ERROR_WANT_READ)
		tls_failed(l);
	else if (l->seen > FRAME_MAX_UNAUTH)
		link_kill(l, "too much data before the end of the TLS handshake");
}

/* ---- data --------------------------------------------------------------- */

static void read_failed(struct link *l, int r)
{
	switch (SSL_get_error(l->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		if (l->wire.bytes > 0) /* a key update to be answered */
			hub_mark(l);
		break;
	case SSL_ERROR_ZERO_RETURN:
		link_kill(l, "closed by the other side");
		break;
	default:
		link_flush(l);
		tls_failed(l);
	}
}

static bool read_record(struct link *l)
{
	size_t room;
	char *p = frame_reader_space(&l->in, l->want, &room);
	int r;

	if (!p) {
		link_kill(l, "out of memory");
		return false;
	}
	if (room > READ_BIG)
		room = READ_BIG;

	ERR_clear_error();
	r = SSL_read(l->ssl, p, (int)room);
	if (r <= 0) {
		read_failed(l, r);
		return false;
	}
	frame_reader_got(&l->in, (size_t)r);
	if ((size_t)r == room && l->want < READ_BIG)
		l->want *= 4;
	link_dispatch(l);
	return true;
}

int link_tls_hold(struct link *l)
{
	char *p;

	if (l->rx_n == 0) {
		free(l->held);
		l->held = NULL;
		return 0;
	}

	p = malloc(l->rx_n);
	if (!p)
		return -ENOMEM;
	memcpy(p, l->rx, l->rx_n);
	free(l->held);
	l->held = p;
	l->rx = p;
	return 0;
}

void link_tls_input(struct link *l)
{
	bool was_held = l->held != NULL;

	if (l->state == LS_HANDSHAKE)
		handshake(l);
	if (l->state == LS_UP)
		link_dispatch(l); /* left over from a pause */
	while (l->state == LS_UP && !l->paused && read_record(l))
		;
	if (l->state != LS_UP)
		l->rx_n = 0; /* rx does not outlive the callback */
	else if ((l->rx_n > 0 || was_held) && link_tls_hold(l) < 0)
		link_kill(l, "out of memory");
}

static bool seal(struct link *l)
{
	struct seg *s = l->plain.head;
	int r;

	ERR_clear_error();
	r = SSL_write(l->ssl, s->base + s->off, (int)s->len);
	if (r <= 0) {
		tls_failed(l);
		return false;
	}
	queue_consume(&l->plain, (size_t)r);
	l->sealed += (uint64_t)r;
	return true;
}

void link_tls_seal(struct link *l)
{
	if (l->sealed > REKEY_BYTES && SSL_key_update(l->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
		l->sealed = 0;
	while (l->plain.bytes > 0 && l->wire.bytes < WIRE_BATCH && seal(l))
		;
}

void link_tls_goodbye(struct link *l)
{
	ERR_clear_error();
	SSL_shutdown(l->ssl);
	ERR_clear_error();
}
